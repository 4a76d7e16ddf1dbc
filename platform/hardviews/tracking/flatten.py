"""A configuration as flat parameters."""

import dataclasses
import enum
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from hardviews.tracking.scrub import scrub_item

# MLflow's limits.
_LONGEST_KEY, _LONGEST_VALUE = 250, 6000


def flatten(config: Any, prefix: str = "") -> dict[str, str]:
    """Return a dataclass or mapping, of any nesting, as `a.b.c` -> text.

    A nested dataclass also has its class as value (`method` -> `SimSiam`): recipes choose among classes. Sequences
    of plain values become JSON. Secrets are hidden (see `scrub`); keys and values are cut to MLflow's limits.
    """
    return {key[:_LONGEST_KEY]: scrub_item(key, value)[:_LONGEST_VALUE] for key, value in _walk(config, prefix)}


def _walk(value: Any, key: str) -> list[tuple[str, str]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        named = [(key, type(value).__name__)] if key else []
        return named + _walk(fields, key)
    if isinstance(value, Mapping):
        return [item for name, inner in value.items() for item in _walk(inner, _join(key, str(name)))]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if any(dataclasses.is_dataclass(inner) or isinstance(inner, Mapping) for inner in value):
            return [item for i, inner in enumerate(value) for item in _walk(inner, _join(key, str(i)))]
        return [(key, json.dumps([_text(inner) if not _plain(inner) else inner for inner in value]))]
    return [(key, _text(value))]


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _plain(value: Any) -> bool:
    return value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum))


def _text(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    return value.__qualname__ if callable(value) and hasattr(value, "__qualname__") else str(value)
