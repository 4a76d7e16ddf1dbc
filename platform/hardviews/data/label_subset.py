"""A draw of labelled images by a seed: equal numbers of each class; larger draws contain smaller ones.

SimCLR's published subsets of ImageNet are balanced like this (Chen et al. 2020, section 4): their 1 % has 12 or 13
images of each class. The images are named in published lists (`simclr_lists.py`).
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
    """A choice of labels: a share of all in per cent, a number of each class, or a published list.

    `place` is the file of the list, or its folder; None fetches the file.
    """

    per_cent: float | None = None
    per_class: int | None = None
    listed: PublishedList | None = None
    place: str | None = None

    @classmethod
    def read(cls, text: str, place: str | None = None) -> "Labels":
        """Read `1%`, `10%`, `100%`, `16-per-class`, `simclr-1%` or `simclr-10%`. place: `--labels-list`.

        Raises:
            UserError: the text has another form, or `place` is given without the name of a list.
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
            f"--labels {text} is not a number of labels. Give a share of them, such as 1% or 10%, a number of "
            f"each class, such as 16-per-class, or a published list of ImageNet: {' or '.join(LISTS)}."
        )

    @property
    def all(self) -> bool:
        """Whether all labels are meant."""
        return self.per_cent == 100

    def __str__(self) -> str:
        """Return the name of the choice in records."""
        if self.listed is not None:
            return self.listed.called
        return f"{self.per_cent:g}%" if self.per_class is None else f"{self.per_class}{_PER_CLASS}"

    def draw(self, index: Index, seed: int) -> list[int]:
        """Return the rows drawn from a dataset, or named by a list, in the dataset's order.

        A share is divided equally among the classes. The remainder goes to some classes, one image each, in an order
        drawn by the seed. A class with fewer images gives all of them. The rows with the lowest hashes of (seed,
        content) are taken, so shards and order do not matter.

        Raises:
            UserError: the dataset has no labels, or there are more classes than images to draw; or the list cannot be
                read, or the dataset lacks some of its images.
        """
        if self.listed is not None:
            return rows_of(index, self.listed, self.place)
        if index.multi_label or not (index.labels >= 0).any():
            raise UserError(
                f"--labels draws images by their class, and the images of {index.url} have none, or several each."
            )
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
