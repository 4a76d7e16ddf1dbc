"""Every command of `hardviews` with its help, as it prints it."""

import contextlib
import io
import os
import re
from unittest import mock

from building.docstrings import escaped
from building.tables import section
from hardviews import cli

_WIDTH = "84"  # of a terminal; wider text would be scrolled on the page
# Ends the help of commands that go on with the list of recipes, which has a page of its own.
_LISTED = "\nrecipes:\n"


def commands() -> str:
    """Return a section for each command, in the order of `hardviews --help`."""
    guide = printed([])
    named = re.findall(r"^  (\w+) +(.*)$", guide.partition("\nnext:")[0], re.MULTILINE)
    lines = []
    for command, meaning in named:
        text = printed([command, "--help"]).partition(_LISTED)[0].rstrip()
        lines += section(f"hardviews {command}", f"command-{command}")
        lines += [escaped(f"{meaning[:1].upper()}{meaning[1:]}."), ""]
        lines += [
            ".. code-block:: text",
            "   :class: help",
            "",
            *(f"   {line}".rstrip() for line in text.splitlines()),
            "",
        ]
    return "\n".join(lines)


def printed(words: list[str]) -> str:
    """Return what `hardviews` prints for some words that ask for help."""
    text = io.StringIO()
    text.reconfigure = lambda **_: None  # type: ignore[attr-defined]  # as streams of a terminal have it
    terminal = mock.patch.dict(os.environ, COLUMNS=_WIDTH)
    with terminal, contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        cli.main(words)
    return re.sub(r"\x1b\[[\d;]*m", "", text.getvalue())
