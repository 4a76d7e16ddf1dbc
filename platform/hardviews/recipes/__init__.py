"""Recipes: functions that return a complete configuration. A new one is a file and a line here."""

import difflib
from collections.abc import Callable

from hardviews.errors import UserError
from hardviews.recipes.digits import digits
from hardviews.recipes.photos import photos
from hardviews.recipes.recipe import Recipe
from hardviews.recipes.smoke import smoke

RECIPES: dict[str, Callable[[], Recipe]] = {"digits": digits, "photos": photos, "smoke": smoke}


def recipe_named(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(
            f"There is no recipe {name!r}.{hint} Choose one of {', '.join(RECIPES)}; see `hardviews recipes`."
        )
    return RECIPES[name]()
