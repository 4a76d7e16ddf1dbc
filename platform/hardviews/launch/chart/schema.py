"""The values that the schema of the Helm chart refuses, in words."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import ValidationError
from jsonschema.validators import validator_for

from hardviews.errors import did_you_mean
from hardviews.launch.chart.values import SCHEMA, Place

_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "keys with values",
    "null": "null",
}


@dataclass(frozen=True)
class Violation:
    """A sentence about a value that the schema refuses.

    Attributes:
        place: place of the value.
        form: whether the value cannot be read at all; otherwise it has the right kind, but is out of range.
        text: the sentence.
    """

    place: Place
    form: bool
    text: str


def violations(values: Mapping[str, Any], folder: Path) -> list[Violation]:
    """Return the violations of the schema of the chart in a folder."""
    schema = json.loads((folder / SCHEMA).read_text(encoding="utf-8"))
    checker = validator_for(schema)(schema)
    errors = sorted(checker.iter_errors(values), key=lambda error: [str(key) for key in error.absolute_path])
    return list(dict.fromkeys(violation for error in errors for violation in _in_words(error)))


def dotted(place: Place) -> str:
    """Return a place in the form that users of Helm write: `pretrain.mounts[0].dst`."""
    text = ""
    for key in place:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _in_words(error: ValidationError) -> Iterator[Violation]:
    place, schema, value = tuple(error.absolute_path), error.schema, error.instance
    name = dotted(place)
    if error.validator == "additionalProperties" and isinstance(error.validator_value, bool):
        known, forms = list(schema.get("properties", {})), list(schema.get("patternProperties", {}))
        for key in value:
            if key in known or any(re.search(form, str(key)) for form in forms):
                continue
            if forms:
                yield Violation((*place, str(key)), False, f"{name} has the key {key}, which is not of the right form.")
            else:
                near = did_you_mean(str(key), known)
                near = near.replace("mean ", f"mean {name}.") if place else near
                more = "" if near else f" It has {', '.join(known)}."
                whose = f"{name} has no key {key}" if place else f"The chart has no value {key}"
                yield Violation((*place, key), True, f"{whose}.{near}{more}")
        return
    if error.validator == "required":
        lacking = [key for key in error.validator_value if key not in value]
        yield Violation(place, True, f"{name} lacks {', '.join(lacking)}.")
        return
    if error.validator == "type":
        yield Violation(place, True, _wrong_kind(name, value, error.validator_value))
        return
    what = f" {schema['description']}" if schema.get("description") else ""
    if error.validator == "enum":
        choices = [str(choice) for choice in error.validator_value if choice != ""]
        yield Violation(place, False, f"{name} is {_shown(value)}. Choose from {', '.join(choices)}.{what}")
        return
    limits = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "minLength": "not empty",
        "maxLength": "at most {} characters",
    }
    rule = limits.get(str(error.validator))
    ending = f", and must be {rule.format(error.validator_value)}" if rule else ", which is not of the right form"
    yield Violation(place, False, f"{name} is {_shown(value)}{ending}.{what}")


def _wrong_kind(name: str, value: Any, kinds: str | list[str]) -> str:
    wanted = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    give = " or ".join(_KINDS.get(kind, kind) for kind in wanted)
    hint = ""
    if wanted == ["string"] and isinstance(value, bool | int | float):
        hint = f", in quotes: {json.dumps(str(value).lower() if isinstance(value, bool) else str(value))}"
    elif isinstance(value, str) and wanted[0] in ("integer", "number", "boolean") and _plain(value):
        hint = ", without quotes"
    elif wanted == ["array"] and isinstance(value, str):
        hint = f": [{value}]"
    return f"{name} {_shown(value)} cannot be read: give {give}{hint}."


def _plain(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?|true|false", text) is not None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
