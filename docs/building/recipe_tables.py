"""Tables of all recipes by family, from the headers of the recipes."""

import inspect
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from building.docstrings import escaped
from building.tables import section, table
from hardviews.recipes import RECIPES
from hardviews.recipes.header import header
from hardviews.recipes.table import in_short, method_in_short
from hardviews.train.recipe import Recipe

# Facts with a column of their own. Commands differ only in the recipe's name and have no column.
_COLUMNS = ("hours", "time", "number", "expected")


def recipes() -> str:
    """Return a section for each file of recipes."""
    lines: list[str] = []
    ordered = sorted(RECIPES.values(), key=lambda function: list(_families()).index(_family(function)))
    for family, members in groupby(ordered, key=_family):
        lines += _of_family(family, list(members))
    return "\n".join(lines)


def _families() -> dict[str, None]:
    return dict.fromkeys(map(_family, RECIPES.values()))


def _family(function: Callable[[], Any]) -> str:
    return function.__module__.rpartition(".")[2]


def _of_family(family: str, members: Sequence[Callable[[], Any]]) -> list[str]:
    headers = [header(function) for function in members]
    title = " ".join((inspect.getdoc(inspect.getmodule(members[0])) or family).partition("\n\n")[0].split())
    lines = [*section(family, f"recipes-{family}"), escaped(title), ""]
    shared = {key: text for key, text in headers[0].facts.items() if all(h.facts.get(key) == text for h in headers)}
    lines += _facts(shared)
    rows = []
    for function, head in zip(members, headers, strict=True):
        hours = head.facts.get("hours") or head.facts.get("time", "")
        known = head.facts.get("number") or head.facts.get("expected", "")
        own = {key: text for key, text in head.facts.items() if key not in shared and key not in _COLUMNS}
        rest = "".join(f" *{key}*: {escaped(text)}." for key, text in own.items() if key != "command")
        what = f"{escaped(head.title)} {_parts(function())}{rest}"
        rows.append((f"``{function.__name__}``", what, escaped(hours), escaped(known)))
    columns = ("recipe", "training", "hours or time", "published or expected")
    return [*lines, *table(columns, rows, (26, 40, 14, 20))]


def _parts(recipe: Recipe) -> str:
    """Return method, network, strategy and length in a few words."""
    parts = (method_in_short(recipe.method), recipe.backbone.name, in_short(recipe.strategy))
    return f"{escaped(', '.join(parts))}, {recipe.training.epochs} epochs."


def _facts(facts: dict[str, str]) -> list[str]:
    shown = [f":{key}: {escaped(text)}" for key, text in facts.items() if key not in (*_COLUMNS, "command")]
    return [*shown, ""] if shown else []
