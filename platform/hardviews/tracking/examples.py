"""The content of a gallery: images and their views, as plain pixels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
# Top, left, height and width in pixels of the original.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Tile:
    """A view: uint8 pixels (H, W, 3), a short caption, and its box in the original, if it has one.

    `mark` is a label of a character or two at the box.
    """

    pixels: Image
    caption: str = ""
    box: Box | None = None
    mark: str = ""


@dataclass(frozen=True, eq=False)
class Example:
    """One row of the gallery; groups that are empty in every row are left out.

    `random` are the drawn views, if there was no choice. `chosen` and `passed_over` are the result of hard view
    selection. `attacked` are pairs of a clean view and its adversarial version, of one size. `mixed` are cut-mixed or
    mixed-up views.
    """

    original: Image
    name: str = ""
    random: tuple[Tile, ...] = ()
    chosen: tuple[Tile, ...] = ()
    passed_over: tuple[Tile, ...] = ()
    attacked: tuple[tuple[Tile, Tile], ...] = ()
    mixed: tuple[Tile, ...] = ()
