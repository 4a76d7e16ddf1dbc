"""Rows of small pictures in groups, some of them in a frame: drawn without matplotlib, in milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

_SIDE, _GAP, _WIDER, _FRAME = 112, 6, 24, 4  # pixels: of a tile, between tiles, between groups, of a frame
_SMALL = 64  # largest side in pixels of a picture that is enlarged without smoothing


@dataclass(frozen=True, eq=False)
class Framed:
    """A picture, uint8 (H, W, 3), and the colour of its frame, such as `#009E73`; empty for none."""

    pixels: Pixels
    frame: str = ""


def sheet(rows: Sequence[Sequence[Sequence[Framed]]]) -> Image.Image:
    """Return the rows below one another; a row has groups of tiles with small gaps."""
    placed = [_places(groups) for groups in rows]
    width = max(left for row in placed for left, _ in row) + _SIDE + _GAP
    made = Image.new("RGB", (width, _GAP + len(rows) * (_SIDE + _GAP)), "white")
    for number, row in enumerate(placed):
        top = _GAP + number * (_SIDE + _GAP)
        for left, tile in row:
            inset = _FRAME if tile.frame else 0
            if tile.frame:
                made.paste(tile.frame, (left, top, left + _SIDE, top + _SIDE))
            made.paste(_fitted(tile.pixels, _SIDE - 2 * inset), (left + inset, top + inset))
    return made


def _places(groups: Sequence[Sequence[Framed]]) -> list[tuple[int, Framed]]:
    """Return the tiles of a row with the pixels to the left of each."""
    found, left = [], _GAP
    for group in groups:
        for tile in group:
            found.append((left, tile))
            left += _SIDE + _GAP
        left += _WIDER - _GAP
    return found


def _fitted(pixels: Pixels, side: int) -> Image.Image:
    smooth = min(pixels.shape[:2]) > _SMALL
    return Image.fromarray(pixels).resize(
        (side, side), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    )
