"""A recipe with values from the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from hardviews.arguments import parse
from hardviews.recipes import RECIPES
from hardviews.recipes.header import header
from hardviews.runs.where import Where
from hardviews.train.recipe import Recipe


def overridden(recipe: Recipe, words: Sequence[str]) -> tuple[Where, Recipe]:
    """Read the places, and the recipe with every value that the words name replaced.

    Raises:
        UserError: a word or value that the recipe does not have.
    """

    def both(
        where: Annotated[Where, tyro.conf.arg(name="")], recipe: Annotated[Recipe, tyro.conf.arg(name="")] = recipe
    ) -> tuple[Where, Recipe]:
        return where, recipe

    return parse(both, words, f"pretrain {recipe.name}", description(recipe))


def description(recipe: Recipe) -> str:
    """Return what the recipe's help says first: what it is, and how to change what no setting changes."""
    function = RECIPES.get(recipe.name)
    head = None if function is None else header(function)
    title = recipe.name if head is None else head.title
    file = Path(__file__).parent if head is None else head.file
    return (
        f"{title}\n\nEvery value below can be overridden. The method, the strategy and how strategies are composed "
        f"are what makes the recipe: to change those, copy {file}, and name the copy in __init__.py beside it."
    )
