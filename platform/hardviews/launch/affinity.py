"""The affinity of a job's pods, in a file in the form of Kubernetes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hardviews.errors import UserError

_LARGEST = 1 << 18  # bytes; the API takes objects of 1.5 MB
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_KINDS = ("nodeAffinity", "podAffinity", "podAntiAffinity")
_EXAMPLE = "docs/cluster.md has an example"


def read(file: str | Mapping[str, Any]) -> dict[str, Any]:
    """Read an affinity, the value of `affinity:` in the description of a pod.

    The names and kinds of its two upper levels are checked here; the cluster checks the rest before submission.

    Args:
        file: path of a YAML file on this machine; or the affinity itself, as in a chart's values.

    Raises:
        UserError: the file cannot be read, or does not hold an affinity.
    """
    if isinstance(file, Mapping):
        if why := _wrong(dict(file)):
            raise UserError(f"The affinity cannot be used: {why}. Correct it; {_EXAMPLE}.")
        return dict(file)
    try:
        with Path(file).expanduser().open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise UserError(
            f"The affinity is the path of a YAML file on this machine, and {file} cannot be read: {error.strerror}."
        ) from None
    if len(content) > _LARGEST:
        raise UserError(f"The file {file} is larger than {_LARGEST} bytes, and cannot be an affinity.")
    try:
        found = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark is not None else ""
        raise UserError(f"The affinity in {file} is not YAML{place}. Correct the file; {_EXAMPLE}.") from None
    if why := _wrong(found):
        raise UserError(f"The affinity in {file} cannot be used: {why}. Correct the file; {_EXAMPLE}.")
    return dict(found)


def _wrong(found: Any) -> str | None:
    """Return the first mistake in an affinity, or None."""
    if not isinstance(found, dict) or not found:
        return f"it is not a mapping with one of the keys {', '.join(_KINDS)}"
    for kind, rules in found.items():
        if kind == "affinity":
            return "it has the key affinity, and only the value of this key belongs into the file"
        if kind not in _KINDS:
            return f"it has the key {kind}, and only {', '.join(_KINDS)} are known"
        if not isinstance(rules, dict) or not rules:
            return f"{kind} is not a mapping with the key {_REQUIRED} or {_PREFERRED}"
        for name, rule in rules.items():
            if name not in (_REQUIRED, _PREFERRED):
                return f"{kind} has the key {name}, and only {_REQUIRED} and {_PREFERRED} are known"
            if kind == "nodeAffinity" and name == _REQUIRED:
                if not isinstance(rule, dict) or not isinstance(rule.get("nodeSelectorTerms"), list):
                    return f"{name} of {kind} is not a mapping with a list nodeSelectorTerms"
            elif not isinstance(rule, list):
                return f"{name} of {kind} is not a list"
    return None
