"""The content of a gallery: images and the views that were made of them, as plain pixels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
# Top, left, height and width in pixels of the original.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Tile:
    """A view: uint8 pixels (H, W, 3), a short caption, and where in the original it was cut, if it was.

    mark: a character or two that stand at the box and say which view it is.
    """

    pixels: Image
    caption: str = ""
    box: Box | None = None
    mark: str = ""


@dataclass(frozen=True, eq=False)
class Example:
    """One row of the gallery; groups that are empty in every row are left out.

    random: views as drawn, where nothing was chosen; chosen, passed_over: the outcome of hard view selection;
    attacked: pairs of a clean view and its adversarial version, of one size; mixed: cut-mixed or mixed-up
    views.
    """

    original: Image
    name: str = ""
    random: tuple[Tile, ...] = ()
    chosen: tuple[Tile, ...] = ()
    passed_over: tuple[Tile, ...] = ()
    attacked: tuple[tuple[Tile, Tile], ...] = ()
    mixed: tuple[Tile, ...] = ()
