"""Reads a configuration from the words of a command line; a mistake becomes one paragraph."""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from typing import TypeVar

import tyro

from hardviews.errors import UserError

T = TypeVar("T")

# tyro draws its messages in boxes: titles in the upper edge, rules between sections.
_FRAME = "\u2500-\u257f"
_EDGE = re.compile(rf"[\u256d\u2570].*|[{_FRAME} ]*\u2500{{3,}}[{_FRAME} ]*")


def parse(kind: Callable[..., T], words: Sequence[str], command: str, description: str | None = None) -> T:
    """Build a dataclass, or call a function of dataclasses, from `--name value` words.

    Raises:
        UserError: a word is unknown (the message suggests the nearest), a value is of the wrong kind or missing.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            read: T = tyro.cli(
                kind,
                args=list(words),
                prog=f"hardviews {command}",
                description=description,
                config=(tyro.conf.AvoidSubcommands,),
            )
        return read
    except SystemExit as end:
        if not end.code:  # --help
            raise
    raise UserError(paragraph(said.getvalue()))


def paragraph(box: str) -> str:
    """Return the text of a framed message as sentences: its title goes, its sections end with a full stop."""
    sections = [""]
    for line in box.splitlines():
        text = re.sub(f"[{_FRAME}]", "", line).strip()
        if _EDGE.fullmatch(line):
            sections.append("")
        elif text:
            listed = text.startswith("--") and " --" in sections[-1]
            sections[-1] += f"{',' if listed else ''} {text}"
    told = [section.strip() for section in sections if section.strip()]
    return " ".join(text if text.endswith((".", "?")) else f"{text}." for text in told)
