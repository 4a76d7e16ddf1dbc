"""Tables of all settings of a recipe, from its dataclasses: type, default, meaning."""

import dataclasses
import importlib
import pkgutil
import re
import typing
from types import ModuleType
from typing import Any

from docstring_parser import parse

from building.docstrings import escaped
from building.tables import section, table
from hardviews import methods, strategies
from hardviews.methods.method import MethodConfig
from hardviews.runs.where import Where
from hardviews.strategies.strategy import Strategy
from hardviews.train.recipe import Recipe


def settings() -> str:
    """Return sections for the parts of a recipe, then for each method, strategy and nested dataclass."""
    parts = {Where: "--", Recipe: "--"}
    for name, kind in _hints(Recipe).items():
        if dataclasses.is_dataclass(kind) and kind not in (MethodConfig, Strategy):
            parts[kind] = f"--{name}."
            inner = {_one(of): f"--{name}.{n}." for n, of in _hints(kind).items() if dataclasses.is_dataclass(_one(of))}
            parts |= inner
    parts |= dict.fromkeys(concrete(MethodConfig, methods), "--method.")
    parts |= dict.fromkeys(concrete(Strategy, strategies), "--strategy.")
    inside: dict[type, str] = {}
    for kind in parts:
        inside |= {of: "" for of in _within(kind) if of not in parts}
    known = {*parts, *inside}
    lines: list[str] = []
    for kind, prefix in (parts | inside).items():
        lines += [*section(kind.__name__, _label(kind)), *_summary(kind)]
        rows = [_row(kind, field, prefix, known) for field in dataclasses.fields(kind) if field.init]
        lines += table(("setting", "type", "default", "meaning"), rows, (28, 16, 16, 40)) if rows else []
    return "\n".join(lines)


def concrete(base: type, package: ModuleType) -> list[type]:
    """Return the concrete dataclasses of a package that extend a contract, sorted by name."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    found, waiting = set(), [base]
    while waiting:
        new = [kind for kind in waiting.pop().__subclasses__() if kind not in found]
        found |= set(new)
        waiting += new
    made = [kind for kind in found if kind.__module__.startswith(package.__name__) and not kind.__abstractmethods__]
    return sorted(made, key=lambda kind: kind.__name__.lower())


def _row(kind: type, field: "dataclasses.Field[Any]", prefix: str, known: set[type]) -> tuple[str, str, str, str]:
    hint = _hints(kind)[field.name]
    links = [f":ref:`{one.__name__} <{_label(one)}>`" for one in _dataclasses(hint) if one in known]
    shown = links[0] if links else f"``{_type(hint)}``"
    return (f"``{prefix}{field.name.replace('_', '-')}``", shown, _default(field), escaped(_meaning(kind, field.name)))


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    return type(value).__name__ if dataclasses.is_dataclass(value) else f"``{value!r}``"


def _meaning(kind: type, name: str) -> str:
    """Return the description of a field from the docstring of a class or of one of its bases."""
    for one in kind.__mro__:
        for described in parse(one.__doc__ or "").params:
            if described.arg_name == name:
                return " ".join((described.description or "").split())
    return ""


def _summary(kind: type) -> list[str]:
    said = parse(kind.__doc__ or "")
    text = " ".join(part for part in (said.short_description, said.long_description) if part)
    return [escaped(" ".join(text.split())), ""]


def _within(kind: type) -> list[type]:
    """Return all dataclasses nested in the fields of a dataclass."""
    found: list[type] = []
    waiting = [kind]
    while waiting:
        for hint in _hints(waiting.pop()).values():
            new = [one for one in _dataclasses(hint) if one not in found and one not in (MethodConfig, Strategy)]
            found += new
            waiting += new
    return found


def _dataclasses(hint: Any) -> list[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return [hint]
    return [kind for inner in typing.get_args(hint) for kind in _dataclasses(inner)]


def _one(hint: Any) -> Any:
    return next(iter(_dataclasses(hint)), hint)


def _hints(kind: type) -> dict[str, Any]:
    named = {field.name for field in dataclasses.fields(kind) if field.init}
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if name in named}


def _type(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


def _label(kind: type) -> str:
    return f"settings-{kind.__name__.lower()}"
