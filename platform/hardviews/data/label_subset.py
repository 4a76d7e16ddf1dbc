"""Some of the labelled images of a dataset: as many of each class, drawn by a seed, smaller draws inside larger ones.

SimCLR's published subsets of ImageNet are balanced like this (Chen et al. 2020, section 4): 12 or 13 images of each
class are its 1 %. Which images they are stands in its lists (`simclr_lists.py`).
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hardviews.data.content_draw import hashed, lot
from hardviews.data.index import Index
from hardviews.data.simclr_lists import LISTS, PublishedList, rows_of
from hardviews.errors import UserError

_PER_CLASS = "-per-class"


@dataclass(frozen=True)
class Labels:
    """Which labels: a share of all of them in per cent, so many of each class, or those of a published list.

    place: of the file of the list, or of its folder; None fetches it.
    """

    per_cent: float | None = None
    per_class: int | None = None
    listed: PublishedList | None = None
    place: str | None = None

    @classmethod
    def read(cls, text: str, place: str | None = None) -> "Labels":
        """Read `1%`, `10%`, `100%`, `16-per-class`, `simclr-1%` or `simclr-10%`. place: `--labels-list`.

        Raises:
            UserError: it is none of these, or a list is given and none is named.
        """
        if text in LISTS:
            return cls(listed=LISTS[text], place=place)
        if place is not None:
            raise UserError(
                f"--labels-list is the file of a published list, and --labels {text} names none. Name one: --labels "
                f"{' or '.join(LISTS)}."
            )
        if re.fullmatch(r"\d+(\.\d+)?%", text) and 0 < float(text[:-1]) <= 100:
            return cls(per_cent=float(text[:-1]))
        if re.fullmatch(r"[1-9]\d*-per-class", text):
            return cls(per_class=int(text.removesuffix(_PER_CLASS)))
        raise UserError(
            f"--labels {text} is no number of labels. Give a share of them, such as 1% or 10%, so many of each class, "
            f"such as 16-per-class, or a published list of ImageNet: {' or '.join(LISTS)}."
        )

    @property
    def all(self) -> bool:
        """Whether all labels are meant."""
        return self.per_cent == 100

    def __str__(self) -> str:
        """Return how records name them."""
        if self.listed is not None:
            return self.listed.called
        return f"{self.per_cent:g}%" if self.per_class is None else f"{self.per_class}{_PER_CLASS}"

    def draw(self, index: Index, seed: int) -> list[int]:
        """Return the rows that are drawn from a dataset, or that a list names, in its order.

        Of a share, each class gets the same number; what is left over goes to one image each of some classes, which
        the seed puts in an order. A class that has fewer images gives all of them. Rows of lowest hashes of (seed,
        content) are taken, so neither shards nor order matter.

        Raises:
            UserError: the dataset has no labels, or fewer images are asked for than classes; or the list cannot be had,
            or the dataset has not all of its images.
        """
        if self.listed is not None:
            return rows_of(index, self.listed, self.place)
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
