"""Docstrings of the package as reStructuredText, in the sections that napoleon reads.

The package writes them as plain text in Google's style. Names are in single backquotes; other signs have no
special meaning. Functions describe their parameters in one paragraph, `name: text. other: text.`. It becomes a list.
"""

import inspect
import re
from collections.abc import Collection, Sequence
from typing import Any

_CODE = re.compile(r"(``?)(?=\S)([^`]*[^`\s])\1(?!`)")
_TICKED = re.compile(r"(`[^`]*`)")
_SIGNS = re.compile(r"(?<!\S)\*\w+\*(?=[\s.,;:)]|$)|[\\*|`]|:(?=:)|_(?=\W|$)|(?<!\w)_")  # first: *emphasis*
_MADE = re.compile(r"<[^<>]*>")
# An option of the command line outside code: Sphinx would print its two dashes as one.
_OPTION = re.compile(r"(?<![\w`/-])--[a-z][\w.-]*\w")
_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Example|Examples|Note):")


def restructured(app: Any, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Rewrite the lines of a docstring in place; Sphinx calls this for each docstring on a page."""
    lines[:] = rewritten(lines, _parameters(thing) if kind in ("function", "method", "class") else ())


def readable(
    app: Any, kind: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Return a signature in valid Python: a default that is created for each call becomes `...`."""
    return None if signature is None else (_MADE.sub("...", signature), returned)


def rewritten(lines: Sequence[str], parameters: Collection[str] = ()) -> list[str]:
    """Return a docstring as valid reStructuredText."""
    made: list[str] = []
    for paragraph in _paragraphs(lines):
        listed = _described(paragraph, parameters)
        made += listed or paragraph
    return [escaped(_renamed(line)) for line in made]


def escaped(text: str) -> str:
    """Return a line with code marked as code, and with other signs escaped."""
    made, end = [], 0
    text = "".join(_OPTION.sub(r"`\g<0>`", part) if n % 2 == 0 else part for n, part in enumerate(_TICKED.split(text)))
    for code in _CODE.finditer(text):
        # An escaped blank is not printed. It separates code from the signs beside it.
        before, after = text[end : code.start()], text[code.end() : code.end() + 1]
        made += [_plain(before), "\\ " if before[-1:].strip() else "", f"``{code[2]}``", "\\ " if after.strip() else ""]
        end = code.end()
    return "".join([*made, _plain(text[end:])])


def _plain(text: str) -> str:
    return _SIGNS.sub(lambda sign: sign[0] if len(sign[0]) > 1 else f"\\{sign[0]}", text)


def _renamed(line: str) -> str:
    """Return the line; on the site the heading of fields is "Settings:", because users set them."""
    return "Settings:" if line == "Attributes:" else line


def _paragraphs(lines: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in lines:
        found[-1].append(line)
        if not line.strip():
            found.append([])
    return [paragraph for paragraph in found if paragraph]


def _described(paragraph: Sequence[str], parameters: Collection[str]) -> list[str]:
    """Return a paragraph about parameters as a section; nothing for another paragraph."""
    text = " ".join(line.strip() for line in paragraph).strip()
    if not parameters or _SECTION.match(text) or paragraph[0].startswith(" "):
        return []
    names = "|".join(sorted(map(re.escape, parameters), key=len, reverse=True))
    if not re.match(rf"({names}): ", text):
        return []
    parts = re.split(rf"(?:^|(?<=[.;?)]) )({names}): ", text)[1:]
    return ["Args:", *(f"    {name}: {said}" for name, said in zip(parts[::2], parts[1::2], strict=True)), ""]


def _parameters(thing: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return ()
