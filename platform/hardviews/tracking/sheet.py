"""Rows of small pictures, some of them in a frame: made without matplotlib, in milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

_SIDE, _GAP, _WIDER, _FRAME = 112, 6, 22, 4  # pixels: of a tile, between tiles, behind the first one, of a frame
_SMALL = 64  # pixels up to which a picture is enlarged without smoothing


@dataclass(frozen=True, eq=False)
class Framed:
    """A picture, uint8 (H, W, 3), and the colour of its frame, such as `#009E73`; empty for none."""

    pixels: Pixels
    frame: str = ""


def sheet(rows: Sequence[Sequence[Framed]]) -> Image.Image:
    """Return the rows below one another; the first picture of a row stands a little apart."""
    columns = max(map(len, rows))
    width = _GAP + columns * (_SIDE + _GAP) + (_WIDER - _GAP if columns > 1 else 0)
    made = Image.new("RGB", (width, _GAP + len(rows) * (_SIDE + _GAP)), "white")
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            left = _GAP + column * (_SIDE + _GAP) + (_WIDER - _GAP if column else 0)
            top = _GAP + row * (_SIDE + _GAP)
            inset = _FRAME if tile.frame else 0
            if tile.frame:
                made.paste(tile.frame, (left, top, left + _SIDE, top + _SIDE))
            made.paste(_fitted(tile.pixels, _SIDE - 2 * inset), (left + inset, top + inset))
    return made


def _fitted(pixels: Pixels, side: int) -> Image.Image:
    smooth = min(pixels.shape[:2]) > _SMALL
    return Image.fromarray(pixels).resize(
        (side, side), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    )
