"""Time limits in Slurm's notation."""

import re

_FORMS = (
    r"(?P<minutes>\d+)",
    r"(?P<minutes>\d+):(?P<seconds>\d+)",
    r"(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)",
    r"(?P<days>\d+)-(?P<hours>\d+)",
    r"(?P<days>\d+)-(?P<hours>\d+):(?P<minutes>\d+)",
    r"(?P<days>\d+)-(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)",
)
_MINUTES = {"days": 1440.0, "hours": 60.0, "minutes": 1.0, "seconds": 1 / 60}


def minutes(text: str) -> float | None:
    """Return a time limit in minutes; infinite for 0 or a word such as `unlimited`; None if it cannot be read."""
    if text.strip().lower() in ("infinite", "unlimited", "-1"):
        return float("inf")
    for form in _FORMS:
        if match := re.fullmatch(form, text.strip()):
            found = sum(_MINUTES[unit] * int(number) for unit, number in match.groupdict().items())
            return found or float("inf")
    return None
