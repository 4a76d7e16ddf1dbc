"""Drawing of figures whose texts are data: markup has no effect, and any script is shown if a font has it."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from hardviews.tracking.fonts import packages

logger = logging.getLogger(__name__)
# A bold title in a font that has no bold face is drawn regular, and needs no remark.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

# Size in points and resolution for the test of a font.
_SIZE, _DPI = 10.0, 100.0
# Regular weight of a font: bold and thin ones come after it.
_REGULAR = 400
# Matplotlib's own font of boxes: it has every character, and shows none.
_BOXES = "Last Resort"
_settled: dict[str, str | None] = {}
"""Font family that shows a character, None if there is none here."""


@contextmanager
def plain_text() -> Iterator[None]:
    """Make new figures in the block without markup: `$` is a dollar, with any matplotlibrc."""
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        yield


def save_figure(figure: Figure, path: str | os.PathLike[str] | BinaryIO) -> None:
    """Save a figure as an image, in a file or as PNG in a stream.

    Characters that the usual font lacks are drawn in another one of this machine. Those that no font has are drawn as
    boxes, and a warning names them, once.
    """
    with plain_text(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        for text in figure.findobj(Text):
            text.set(parse_math=False, usetex=False)
        figure.savefig(path, bbox_inches="tight")
        # The labels of the ticks exist only now.
        texts = figure.findobj(Text)
        families = _families("".join(text.get_text() for text in texts))
        if families:
            for text in texts:
                text.set_fontfamily([*text.get_fontfamily(), *families])
            if not isinstance(path, str | os.PathLike):
                path.seek(0)
                path.truncate()
            figure.savefig(path, bbox_inches="tight")


def _families(text: str) -> list[str]:
    """Return the font families for the characters of a text that the usual font lacks."""
    usual = font_manager.get_font(font_manager.findfont(font_manager.FontProperties()))
    missing = {char for char in text if not char.isspace() and not usual.get_char_index(ord(char))}
    new = missing - set(_settled)
    if new:
        _settle(new)
        boxes = "".join(sorted(char for char in new if _settled[char] is None))
        if boxes:
            logger.warning(
                "figures: no font of this machine has %s, drawn as boxes. Install one with these characters, on Debian "
                "and Ubuntu: apt install %s.",
                boxes[:20],
                " ".join(packages(boxes)),
            )
    return sorted({family for char in missing if (family := _settled[char]) is not None})


def _settle(chars: set[str]) -> None:
    """Find a font for each character, with few fonts by a greedy search."""
    left = set(chars)
    entries = font_manager.fontManager.ttflist
    for entry in sorted(entries, key=lambda entry: (entry.style != "normal", entry.weight != _REGULAR, entry.name)):
        if not left:
            break
        if entry.name.startswith(_BOXES):
            continue
        found = _shown_by(entry.fname, left)
        _settled.update(dict.fromkeys(found, entry.name))
        left -= found
    _settled.update(dict.fromkeys(left, None))


def _shown_by(path: str, chars: set[str]) -> set[str]:
    """Return the characters that a font file has and that can be drawn with it; fonts of bitmaps cannot."""
    try:
        font = font_manager.get_font(path)
        found = {char for char in chars if font.get_char_index(ord(char))}
        if found:
            font.set_size(_SIZE, _DPI)
            font.set_text("".join(sorted(found)))
        return found
    except Exception:
        # A damaged file, or one that was removed since matplotlib listed it.
        return set()
