"""A recipe with values from the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from hardviews.arguments import parse
from hardviews.errors import UserError
from hardviews.recipes import RECIPES
from hardviews.recipes.header import header
from hardviews.runs.where import Where
from hardviews.train.recipe import Recipe

# Parts of a recipe that are no values: which one it is makes the recipe.
_CHOSEN = ("method", "strategy")


def overridden(recipe: Recipe, words: Sequence[str]) -> tuple[Where, Recipe]:
    """Read the places, and the recipe with every value that the words name replaced.

    Raises:
        UserError: a word or value that the recipe does not have.
    """
    refuse_choice(recipe, words, f"hardviews pretrain {recipe.name}")

    def both(
        where: Annotated[Where, tyro.conf.arg(name="")], recipe: Annotated[Recipe, tyro.conf.arg(name="")] = recipe
    ) -> tuple[Where, Recipe]:
        return where, recipe

    return parse(both, words, f"pretrain {recipe.name}", description(recipe))


def description(recipe: Recipe) -> str:
    """Return the first part of the recipe's help: its title, and the way to change things that no setting changes."""
    title, file = _title_and_file(recipe)
    return (
        f"{title}\n\nEvery value below can be overridden. The method, the strategy and how strategies are composed "
        f"are what makes the recipe: to change those, copy {file}, and name the copy in __init__.py beside it."
    )


def refuse_choice(recipe: Recipe, words: Sequence[str], command: str) -> None:
    """Refuse words that choose a method or a strategy: recipes do that.

    `command`: the beginning of the command line, up to the recipe.

    Raises:
        UserError: there is such a word; the message says how to choose.
    """
    for place, word in enumerate(words):
        option, _, value = word.partition("=")
        part = option.removeprefix("--")
        if word.startswith("--") and part in _CHOSEN:
            following = words[place + 1] if place + 1 < len(words) else ""
            value = value or ("" if following.startswith("-") else following)
            raise UserError(
                f"{f'{option} {value}'.strip()}: a recipe chooses the {part}, the command line does not. Copy "
                f"{_title_and_file(recipe)[1]}, change the {part} in the copy, and name it in __init__.py beside it: "
                f'docs/recipes.md, "Your own". Options --{part}.* set values of the {part} that the recipe has; '
                f"{command} --help lists them."
            )


def _title_and_file(recipe: Recipe) -> tuple[str, Path]:
    function = RECIPES.get(recipe.name)
    if function is None:
        return recipe.name, Path(__file__).parent
    head = header(function)
    return head.title, head.file
