"""Tolerations, in kubectl's form of a taint."""

import re

from hardviews.launch.forms import bad_key, bad_value

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def toleration(text: str) -> dict[str, str] | None:
    """Read a toleration in kubectl's form of a taint; return None if it cannot be read."""
    match = re.fullmatch(r"([^=:]+)(?:=([^=:]*))?(?::([A-Za-z]+))?", text)
    if match is None or bad_key(match[1]) or bad_value(match[2] or ""):
        return None
    if match[3] is not None and match[3] not in EFFECTS:
        return None
    read = {"key": match[1], "operator": "Exists" if match[2] is None else "Equal"}
    if match[2] is not None:
        read["value"] = match[2]
    return read | ({"effect": match[3]} if match[3] else {})
