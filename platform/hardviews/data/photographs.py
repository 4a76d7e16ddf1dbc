"""Photographs that ship with Python packages, cut into small overlapping tiles: real images without a download."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from hardviews.data.source import Item, Split

# Package and file; the packages state the licences.
_PHOTOGRAPHS = {
    "china": ("sklearn.datasets.images", "china.jpg"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
_TRAINED_ON = 0.8  # share of each photograph's width: the right fifth is the test part, and no pixel is in both


@dataclass(frozen=True)
class Tiles:
    """Square tiles of photographs, `size` pixels a side, at equal distances; labels name the photograph.

    Neighbours overlap, as crops of an image do. Each tile is a PNG of the decoded JPEG of the photograph.
    """

    places: tuple[tuple[int, int, int], ...]  # photograph, top, left
    size: int

    classes = tuple(_PHOTOGRAPHS)

    def __len__(self) -> int:
        return len(self.places)

    def key(self, i: int) -> str:
        photograph, top, left = self.places[i]
        return f"{self.classes[photograph]}_{top:04d}_{left:04d}"

    def read(self, i: int) -> Item:
        photograph, top, left = self.places[i]
        name = self.classes[photograph]
        tile = Image.fromarray(_pixels(name)[top : top + self.size, left : left + self.size])
        stream = io.BytesIO()
        tile.save(stream, "PNG", compress_level=6)
        return Item(self.key(i), stream.getvalue(), "png", photograph, f"{_PHOTOGRAPHS[name][1]}[{top}, {left}]")


def photographs(split: Split | None = None, size: int = 48, down: int = 16, right: int = 8) -> Tiles:
    """Return tiles of three photographs: 4,442 to train on, 773 to test on.

    Args:
        split: None adds the tiles across the border; `train` is cut from the left four fifths of each photograph,
            `test` from the rest.
        size: pixels a side.
        down: pixels from one row of tiles to the next.
        right: pixels from one tile of a row to the next.
    """
    return Tiles(tuple(_places(split, size, down, right)), size)


def _places(split: Split | None, size: int, down: int, right: int) -> Iterator[tuple[int, int, int]]:
    for photograph, name in enumerate(_PHOTOGRAPHS):
        height, width = _pixels(name).shape[:2]
        border = int(width * _TRAINED_ON)
        first, last = {"train": (0, border), "test": (border, width), None: (0, width)}[split]
        for top in range(0, height - size + 1, down):
            for left in range(first, last - size + 1, right):
                yield photograph, top, left


@lru_cache(maxsize=len(_PHOTOGRAPHS))
def _pixels(name: str) -> Any:
    package, path = _PHOTOGRAPHS[name]
    with Image.open(io.BytesIO(files(package).joinpath(path).read_bytes())) as image:
        return np.asarray(image.convert("RGB"))
