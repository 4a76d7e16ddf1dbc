"""The images that are measured while a run trains: chosen by a hash, the same in every life and every process.

Four parts follow one another in one list: images of the training data as in an evaluation, views of some of these
images, and the labelled images for training and testing k-NN and few-shot.

Shape legend: B images, S side in pixels, N samples of a dataset.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hardviews.data.index import Index
from hardviews.data.reader import Reader
from hardviews.data.sample import Sample
from hardviews.elastic.environment import launched
from hardviews.errors import UserError
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.ordered_map import ordered_map
from hardviews.views import host
from hardviews.views.augmentation import Augmentation
from hardviews.views.decode import DecodeError, decode
from hardviews.views.params import draw
from hardviews.views.random import Purpose, words

VIEWS = 4
"""Views of each image that views are measured of."""

_SEED = 0  # not the run's: runs of all seeds measure the same images
_SHARE = 8  # one in so many images has its views measured
_HELD = 2**29  # bytes of pixels that a process keeps
_THREADS = 8
_ENOUGH = 20  # labelled images of a class to learn from; of more classes than have so many, some are chosen

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Images of one dataset: rows of its index, and by which transform they are seen.

    Attributes:
        name: `images`, `views`, `bank` or `test`.
        reader: reader of the dataset.
        rows: rows of its index, one for each image of the part; an image has as many rows as views.
        views: the number of the view that each row is seen as; None for the transform of evaluations.
    """

    name: str
    reader: Reader
    rows: Rows
    views: Rows | None = None


class Specimens:
    """The images, decoded when they are first asked for, and kept as far as memory allows."""

    def __init__(self, training: Reader, view: Augmentation, images: int) -> None:
        """Choose at most so many images of the training data, and the views of some of them."""
        self.view, self._preprocess = view, Preprocess.of(view.size)
        chosen = choose(training.index, images)
        viewed = chosen[: max(2, len(chosen) // _SHARE)]
        numbers = np.tile(np.arange(VIEWS), len(viewed))
        self.parts = [Part("images", training, chosen), Part("views", training, np.repeat(viewed, VIEWS), numbers)]
        self._kept: dict[int, Tensor] = {}
        self._free = _HELD

    def add_labelled(self, bank: Reader, test: Reader, images: int) -> None:
        """Add labelled images, at most so many of both datasets together, half of them to be tested on.

        Raises:
            UserError: the test dataset has no image of the classes that are chosen.
        """
        known = np.unique(bank.index.labels)
        classes = np.sort(known[np.argsort(_hash_of(known), kind="stable")][: max(2, images // 2 // _ENOUGH)])
        each = max(1, images // 2 // len(classes))
        for name, reader in (("bank", bank), ("test", test)):
            self.parts.append(Part(name, reader, choose_labelled(reader.index, classes, each)))
        if not len(self.parts[-1].rows):
            raise UserError(
                f"--monitor.data: the dataset {test.index.url} has no image of the classes of {bank.index.url}. Give "
                "datasets of the same classes."
            )

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    def place(self, name: str) -> slice:
        """Return the places of a part's images among all; an empty slice if there is no such part."""
        first = 0
        for part in self.parts:
            if part.name == name:
                return slice(first, first + len(part.rows))
            first += len(part.rows)
        return slice(0, 0)

    def some(self, name: str, count: int) -> list[int]:
        """Return the places of at most so many images of a part, chosen by a hash; fewer of a part that has fewer."""
        part = self.place(name)
        return [part.start + int(number) for number in np.argsort(_hash(part.stop - part.start), kind="stable")[:count]]

    def labels(self, name: str) -> Rows:
        """Return the labels of a part, numbered from 0 without gaps by the labels of the training part."""
        bank, part = (next(part for part in self.parts if part.name == wanted) for wanted in ("bank", name))
        known = np.unique(bank.reader.index.labels[bank.rows])
        return np.searchsorted(known, part.reader.index.labels[part.rows])

    def pixels(self, places: Sequence[int]) -> Tensor:
        """Return the images at these places, uint8 (B, 3, S, S).

        Raises:
            UserError: an image cannot be read.
        """
        missing = [place for place in places if place not in self._kept]
        made = dict(zip(missing, self._make(missing), strict=True))
        found = torch.stack([self._kept[place] if place in self._kept else made[place] for place in places])
        for place, image in made.items():
            if image.nbytes <= self._free:
                self._free -= image.nbytes
                self._kept[place] = image
        return found

    def close(self) -> None:
        """Let go of the files."""
        for part in self.parts:
            part.reader.close()

    def _make(self, places: Sequence[int]) -> list[Tensor]:
        wanted: list[tuple[Part, int]] = []
        for place in places:
            for part in self.parts:
                if place < len(part.rows):
                    wanted.append((part, place))
                    break
                place -= len(part.rows)
        samples = self._read(wanted)
        threads = max(1, min(_THREADS, len(os.sched_getaffinity(0)) // launched().local_size))
        return list(ordered_map(lambda each: self._see(*each, samples), wanted, threads, ahead=4 * threads))

    def _read(self, wanted: Sequence[tuple[Part, int]]) -> dict[tuple[Reader, int], Sample]:
        """Read each sample once, all of a dataset together: a store is then asked for many at a time."""
        found: dict[tuple[Reader, int], Sample] = {}
        for reader in dict.fromkeys(part.reader for part, _ in wanted):
            rows = list(dict.fromkeys(int(part.rows[row]) for part, row in wanted if part.reader is reader))
            found |= {(reader, row): sample for row, sample in zip(rows, reader.read(rows), strict=True)}
        return found

    def _see(self, part: Part, row: int, samples: Mapping[tuple[Reader, int], Sample]) -> Tensor:
        sample = samples[part.reader, int(part.rows[row])]
        try:
            if part.views is None:
                return self._preprocess(sample.data)
            image = decode(sample.data)
        except DecodeError as error:
            raise UserError(
                f"The image {sample.key!r} of {part.reader.index.url} cannot be decoded ({error}). Pack the dataset "
                "again: packing leaves out images that it cannot decode."
            ) from error
        height, width = (np.array([length]) for length in image.shape[:2])
        place = np.array([int(part.rows[row])])
        drawn = draw(self.view, _SEED, 0, place, int(part.views[row]), height, width)
        return torch.from_numpy(host.render(image, drawn[0], self.view))


def choose(index: Index, images: int) -> Rows:
    """Return rows of a dataset, at most so many, in the order of a hash.

    They come from as few shards as possible: a shard is a random part of a dataset, and a remote dataset is fetched by
    shards.
    """
    counts = index.counts
    shards = np.argsort(_hash(len(counts)), kind="stable")
    enough = int(np.searchsorted(np.cumsum(counts[shards]), images)) + 1
    first = np.concatenate([[0], np.cumsum(counts)])
    rows = np.concatenate([np.arange(first[shard], first[shard + 1]) for shard in shards[:enough]])
    return rows[np.argsort(_hash_of(rows), kind="stable")][:images].astype(np.int64)


def choose_labelled(index: Index, classes: Rows, each: int) -> Rows:
    """Return the rows of a dataset whose label is among `classes`, at most `each` of a class, chosen by a hash."""
    labels, order = index.labels, _hash(len(index))
    found = []
    for label in classes.tolist():
        rows = np.flatnonzero(labels == label)
        found.append(rows[np.argsort(order[rows], kind="stable")][:each])
    return np.sort(np.concatenate(found)).astype(np.int64)


def _hash(count: int) -> Rows:
    return _hash_of(np.arange(count, dtype=np.int64))


def _hash_of(numbers: Rows) -> Rows:
    return words(_SEED, Purpose.MONITOR, 0, numbers, 0, 1)[:, 0]
