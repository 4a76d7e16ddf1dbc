"""Values of the Helm chart: read from files, and merged over the chart's defaults as Helm does."""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import hardviews
from hardviews.errors import UserError

Values = dict[str, Any]
Place = tuple[str | int, ...]
"""Keys and list positions that lead to a value."""

SCHEMA = "values.schema.json"
DEFAULTS = "values.yaml"


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]  # PyYAML ships no types
    """Reads YAML as Helm does: 1:2 is text, not a number of base 60 as in YAML 1.1; 1e3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice[0]} stands there twice", node.start_mark
            )
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?\d+\Z"),
    "tag:yaml.org,2002:float": re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?\Z"),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in _NUMBERS]
    for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list("-+.0123456789"))


def chart_folder(given: str | None) -> Path:
    """Return the folder of the chart: the given one, else `charts/hardviews` here or in the checkout.

    Raises:
        UserError: there is none.
    """
    checkout = Path(hardviews.__file__).parents[2]
    places = [Path(given)] if given else [Path.cwd() / "charts" / "hardviews", checkout / "charts" / "hardviews"]
    for folder in places:
        if all((folder / name).is_file() for name in (SCHEMA, DEFAULTS)):
            return folder
    where = " and ".join(str(folder) for folder in dict.fromkeys(places))
    raise UserError(
        f"There is no Helm chart at {where}: a chart's folder has {DEFAULTS} and {SCHEMA}. Give the folder of "
        "the chart, --chart FOLDER; the checkout has it at charts/hardviews."
    )


def read_values(files: Sequence[str]) -> Values:
    """Read files of values and merge them; a later file wins.

    Raises:
        UserError: a file is missing, is not YAML, or does not hold keys with values.
    """
    merged: Values = {}
    for file in files:
        merged = merge(merged, _read(Path(file)))
    return merged


def defaults(folder: Path) -> Values:
    """Read the default values of the chart in a folder."""
    return _read(folder / DEFAULTS)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """Merge values as Helm does: maps key by key, everything else as a whole."""
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return merged


def without(values: Mapping[str, Any], places: Sequence[Place]) -> Values:
    """Return values without some of them; in a list the whole entry is removed."""
    left: Any = copy.deepcopy(dict(values))
    # From the end, so that the positions of other entries in a list stay valid.
    entries = {entry_of(place) for place in places if place}
    for place in sorted(entries, key=lambda keys: [str(key).zfill(6) for key in keys], reverse=True):
        *way, last = entry_of(place)
        holder = left
        try:
            for key in way:
                holder = holder[key]
            del holder[last]
        except (KeyError, IndexError, TypeError):
            continue  # removed together with its entry
    return dict(left)


def entry_of(place: Place) -> Place:
    """Return the place of the list entry that holds a value, or of the value itself."""
    return next((place[: i + 1] for i, key in enumerate(place) if isinstance(key, int)), place)


def _read(file: Path) -> Values:
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"There is no file {file}. Give files of values, as `helm install -f` takes them.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The file {file} cannot be read: {error}. Give a file of YAML.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        why = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"The file {file}{line}, is not valid YAML: {why}. Mend the file.") from error
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UserError(f"The file {file} does not hold keys with values. Write them as in the chart's {DEFAULTS}.")
    return found
