"""The words of `hardviews pretrain`, read alike by the command itself and by what launches it."""

from collections.abc import Sequence

from hardviews.errors import UserError
from hardviews.recipes import RECIPES, recipe_named
from hardviews.recipes.overrides import overridden
from hardviews.recipes.table import table
from hardviews.runs.where import Where
from hardviews.train.recipe import Recipe


def read_pretrain(words: Sequence[str]) -> tuple[Where, Recipe]:
    """Return the configuration in the words; if they ask for help, print it and end the process.

    Raises:
        UserError: they name no recipe, or something that it does not have.
    """
    if not words or words[0] in ("-h", "--help"):
        print("usage: hardviews pretrain RECIPE --data SHARDS --output RUN [--SETTING VALUE ...]\n\nrecipes:")
        print(table())
        print("\nEvery setting and its value: hardviews pretrain RECIPE --help")
        if not words:
            raise UserError("Say which recipe to pretrain by, for example: hardviews pretrain digits --help")
        raise SystemExit(0)
    if words[0].startswith("-"):
        named = next((word for word in words if word in RECIPES), "digits")
        raise UserError(
            f"The recipe comes first, before {words[0]}: pretrain {named} --data SHARDS --output RUN. "
            "`hardviews recipes` lists them all."
        )
    return overridden(recipe_named(words[0]), words[1:])
