"""Some of the labelled images of a dataset: as many of each class, drawn by a seed, smaller draws inside larger ones.

SimCLR's published subsets of ImageNet are balanced like this (Chen et al. 2020, section 4): 12 or 13 images of each
class are its 1 %. Which images they are, only its lists tell: `hardviews pack --keys` takes those.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hardviews.data.content_draw import hashed, lot
from hardviews.data.index import Index
from hardviews.errors import UserError

_PER_CLASS = "-per-class"


@dataclass(frozen=True)
class Labels:
    """How many labels: a share of all of them in per cent, or so many of each class."""

    per_cent: float | None = None
    per_class: int | None = None

    @classmethod
    def read(cls, text: str) -> "Labels":
        """Read `1%`, `10%`, `100%` or `16-per-class`.

        Raises:
            UserError: it is none of these.
        """
        if re.fullmatch(r"\d+(\.\d+)?%", text) and 0 < float(text[:-1]) <= 100:
            return cls(per_cent=float(text[:-1]))
        if re.fullmatch(r"[1-9]\d*-per-class", text):
            return cls(per_class=int(text.removesuffix(_PER_CLASS)))
        raise UserError(
            f"--labels {text} is no number of labels. Give a share of them, such as 1% or 10%, or so many of each "
            "class, such as 16-per-class."
        )

    @property
    def all(self) -> bool:
        """Whether all labels are meant."""
        return self.per_cent == 100

    def draw(self, index: Index, seed: int) -> list[int]:
        """Return the rows that are drawn from a dataset, in its order.

        Of a share, each class gets the same number; what is left over goes to one image each of some classes, which
        the seed puts in an order. A class that has fewer images gives all of them. Rows of lowest hashes of (seed,
        content) are taken, so neither shards nor order matter.

        Raises:
            UserError: the dataset has no labels, or fewer images are asked for than classes.
        """
        if index.multi_label or not (index.labels >= 0).any():
            raise UserError(f"--labels draws images by their class, and those of {index.url} have no single one each.")
        by_class: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
        for place, (row, label) in enumerate(zip(index.samples, index.labels.tolist(), strict=True)):
            if label >= 0:
                by_class[label].append((lot("labelled", seed, row), place))
        counts = self._counts(sorted(by_class, key=lambda label: hashed(seed, f"class {label}")), by_class)
        return sorted(place for label, found in by_class.items() for _, place in sorted(found)[: counts[label]])

    def _counts(self, classes: Sequence[int], by_class: dict[int, list[tuple[bytes, int]]]) -> dict[int, int]:
        if self.per_class is not None:
            return dict.fromkeys(classes, self.per_class)
        total = int(sum(map(len, by_class.values())) * (self.per_cent or 0) / 100)
        if self.all:
            return {label: len(found) for label, found in by_class.items()}
        each, left = divmod(total, len(classes))
        if not each:
            raise UserError(
                f"--labels {self.per_cent:g}% are {total} images, fewer than the {len(classes)} classes. Give a larger "
                "share, or 1-per-class."
            )
        return {label: each + (number < left) for number, label in enumerate(classes)}
