"""Settings of a call as the words of the command that has them, so that both are checked alike."""

from collections.abc import Mapping
from typing import Any


def words(settings: Mapping[str, Any]) -> list[str]:
    """Return the words of a command: `{"training.epochs": 5}` is `--training.epochs 5`.

    A truth value becomes `--name` or `--no-name`; several values follow one name. None says nothing.
    """
    found: list[str] = []
    for name, value in settings.items():
        option = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            head, _, last = option.rpartition(".")
            found.append(f"--{option}" if value else f"--{head}{'.' if head else ''}no-{last}")
        elif isinstance(value, list | tuple):
            found += [f"--{option}", *(str(one) for one in value)]
        else:
            found += [f"--{option}", str(value)]
    return found
