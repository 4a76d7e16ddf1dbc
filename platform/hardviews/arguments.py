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
# If the encoding of stdout is not UTF-8, it draws no box: a rule below the title, indented less than the others.
_PLAIN_RULE = re.compile(r" +-{3,} *")
_PLAIN_EDGE = re.compile(r" -")
# Begins the section in which tyro lists the options nearest to one that is unknown, each with its whole help.
_NEAREST = "Perhaps you meant:"
_NAME = re.compile(r"--[\w.-]+")


def parse(kind: Callable[..., T], words: Sequence[str], command: str, description: str | None = None) -> T:
    """Build a dataclass, or call a function of dataclasses, from `--name value` words.

    Raises:
        UserError: a word is unknown (the message suggests the nearest), a value is of the wrong kind or missing.
    """
    output = io.StringIO()
    try:
        with redirect_stderr(output):
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
    raise UserError(paragraph(output.getvalue()))


def paragraph(box: str) -> str:
    """Return the text of a framed message as sentences: its title goes, its sections end with a full stop.

    Only the names of suggested options stay: their help is long, and `--help` has it.
    """
    sections: list[list[str]] = [[]]
    for line in box.splitlines():
        text = re.sub(f"[{_FRAME}]", "", line).strip()
        if _EDGE.fullmatch(line):
            sections.append([])
        elif _PLAIN_RULE.fullmatch(line):
            if _PLAIN_EDGE.match(line) and sections[-1]:
                sections[-1].pop()  # the title stands above it
            sections.append([])
        elif text:
            sections[-1].append(text)
    texts = [_joined(lines) for lines in sections if lines]
    return " ".join(text if text.endswith((".", "?")) else f"{text}." for text in texts)


def _joined(lines: Sequence[str]) -> str:
    """Return lines as one text, with commas in a list of options."""
    if lines[0] == _NEAREST:
        return f"{_NEAREST} {', '.join(_names(lines[1:]))}"
    joined = ""
    for line in lines:
        listed = line.startswith("--") and " --" in f" {joined}"
        joined += f"{',' if listed else ''} {line}"
    return joined.strip()


def _names(lines: Sequence[str]) -> list[str]:
    """Return the names of the options that lines of help begin with, a switch by its positive name alone."""
    names = [name for line in lines if line.startswith("--") for name in _NAME.findall(line)]
    positive = {name: re.sub(r"(\.|--)no-", r"\1", name) for name in names}
    return [name for name, plain in positive.items() if plain == name or plain not in positive]
