"""Every command of `hardviews` with the text that its `--help` prints."""

import contextlib
import io
import os
import re
from unittest import mock

from building.docstrings import escaped
from building.tables import section
from hardviews import cli

_WIDTH = "84"  # characters of a terminal's line; longer lines need a scroll bar on the page
# The list of recipes at the end of a help text is left out: it has a page of its own.
_LISTED = "\nrecipes:\n"


def commands() -> str:
    """Return a section for each command, in the order of `hardviews --help`."""
    guide = printed([])
    named = re.findall(r"^  ([\w-]+) +(.*)$", guide.partition("\nnext:")[0], re.MULTILINE)
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
    """Return the help that `hardviews` prints for some words."""
    text = io.StringIO()
    text.reconfigure = lambda **_: None  # type: ignore[attr-defined]  # streams of a terminal have this method
    terminal = mock.patch.dict(os.environ, COLUMNS=_WIDTH)
    with terminal, contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        cli.main(words)
    return re.sub(r"\x1b\[[\d;]*m", "", text.getvalue())
