"""The handwritten digits that ship with scikit-learn, as a source."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from hardviews.data.source import Item, Source, Split
from hardviews.data.torchvision_source import as_png


@dataclass(frozen=True)
class Digits:
    """Handwritten digits that ship with scikit-learn: 8x8 pixels, enlarged to `size` x `size` RGB PNGs."""

    pixels: Any
    labels: tuple[int, ...]
    numbers: tuple[int, ...]
    size: int

    classes = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, i: int) -> str:
        return f"digit_{self.numbers[i]:04d}"

    def read(self, i: int) -> Item:
        image = Image.fromarray(self.pixels[i]).resize((self.size, self.size), Image.Resampling.BILINEAR)
        return Item(self.key(i), as_png(image), "png", self.labels[i], f"load_digits()[{self.numbers[i]}]")


def digits(split: Split | None = None, size: int = 32) -> Source:
    """Return scikit-learn's 1,797 handwritten digits; every fifth image of each digit (355 in all) is the test part.

    The collection is ordered by writer and cycles through the digits. If every fifth image of the whole were taken,
    some digits would be twice as frequent as others.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255.0 / 16.0)).astype(np.uint8)
    occurrence = np.array([np.sum(bunch.target[:i] == label) for i, label in enumerate(bunch.target)])
    tested = occurrence % 5 == 4
    numbers = np.flatnonzero(np.ones_like(tested) if split is None else tested == (split == "test"))
    return Digits(pixels[numbers], tuple(map(int, bunch.target[numbers])), tuple(map(int, numbers)), size)
