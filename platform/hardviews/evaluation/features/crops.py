"""Features of random crops, batch after batch, in an order and at places in the image that the seed alone fixes.

A crop depends on seed, epoch and the content of the image; the order on seed and epoch. Batches are cut into
micro-batches of fixed places, each encoded by one process, and gathered in order. So the features of a batch are the
same, bit for bit, for any number of processes, and a training may begin at any step.

Shape suffixes: B a batch or a part of it, N samples, K those that are fitted, S features, HWC a decoded image.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hardviews.data.index import Index
from hardviews.data.order import Order
from hardviews.data.reader import Reader
from hardviews.data.sample import Sample
from hardviews.evaluation.features.extract import AHEAD, Features, gathered, undecodable
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.sources import Embedding
from hardviews.evaluation.linear_protocol import Crops, LinearProtocol
from hardviews.ordered_map import ordered_map
from hardviews.views.augmentation import Augmentation, Jitter
from hardviews.views.decode import DecodeError, decode
from hardviews.views.host import render
from hardviews.views.params import draw
from hardviews.world import World

Ints = npt.NDArray[np.int64]

_NO_JITTER = Jitter(0.0, 0.0, 0.0, 0.0, 0.0)
CENTRAL = -1
"""Instead of an epoch: the central crop of an image, as a test image's."""


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a dataset, and the frozen map that encodes them.

    Attributes:
        index: index of the dataset.
        embedding: uint8 images to features.
        preprocess: preprocess of the central crop; random crops have its size.
        micro_batch: images encoded at once.
        workers: threads that decode images.
    """

    index: Index
    embedding: Embedding
    preprocess: Preprocess
    micro_batch: int = 256
    workers: int = 4


@dataclass(frozen=True, eq=False)
class Batch:
    """Places in the index, and the epoch of each."""

    places_B: Ints
    epochs_B: Ints


@dataclass(frozen=True, eq=False)
class Course:
    """The batches of a training: a pure function of the dataset, the rows that are fitted, protocol and seed.

    Attributes:
        counts: samples in each shard.
        rows_K: places of the samples that are fitted.
        protocol: its batch, length, and the rule for the last images of an epoch.
        seed: seed of the order.
    """

    counts: Ints
    rows_K: Ints
    protocol: LinearProtocol
    seed: int

    @property
    def batch(self) -> int:
        """Images in a step: the protocol's, or all if there are fewer."""
        return min(self.protocol.batch, len(self.rows_K))

    @property
    def epoch_steps(self) -> float:
        """Steps in a pass through the fitted images; whole unless batches span epochs."""
        steps = len(self.rows_K) / self.batch
        if self.protocol.partial == "joined":
            return steps
        return float(-(-len(self.rows_K) // self.batch) if self.protocol.partial == "kept" else int(steps))

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.protocol.steps or max(1, int(self.protocol.epochs * self.epoch_steps))

    @property
    def images(self) -> int:
        """Images that the encoder sees in all steps."""
        return sum(last - first for step in range(self.steps) for _, first, last in self._pieces(step))

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of the steps from `start` on."""
        known, order_K = -1, np.empty(0, np.int64)
        for step in range(start, self.steps):
            places, epochs = [], []
            for epoch, first, last in self._pieces(step):
                if epoch != known:
                    known, order_K = epoch, self._order(epoch)
                places.append(order_K[first:last])
                epochs.append(np.full(last - first, epoch))
            yield Batch(np.concatenate(places), np.concatenate(epochs))

    def _pieces(self, step: int) -> Iterator[tuple[int, int, int]]:
        """Yield the parts of a batch: an epoch, and the first and last position in its order."""
        count = len(self.rows_K)
        if self.protocol.partial != "joined":
            epoch, number = divmod(step, int(self.epoch_steps))
            yield epoch, number * self.batch, min(count, (number + 1) * self.batch)
            return
        at, stop = step * self.batch, (step + 1) * self.batch
        while at < stop:
            epoch, first = divmod(at, count)
            last = min(count, first + stop - at)
            yield epoch, first, last
            at += last - first

    def _order(self, epoch: int) -> Ints:
        """Return the places of the fitted samples in the order of an epoch, which reads few shards at a time."""
        order = Order(self.counts, self.seed, epoch)
        fitted_N = np.zeros(order.total, dtype=bool)
        fitted_N[self.rows_K] = True
        places_N = order.indices(0, order.length)
        return places_N[fitted_N[places_N]]


def central(images: Images, places_K: Tensor, world: World) -> Features:
    """Return the features of the central crops of some samples; every rank calls this and gets all."""
    places = places_K.numpy()
    batch = Batch(places, np.full(len(places), CENTRAL))
    (values_KS,) = [values for _, values in encoded(images, iter([batch]), iter([batch]), None, 0, world)]
    return Features(values_KS, torch.from_numpy(images.index.labels[places]))


def encoded(
    images: Images, mine: Iterator[Batch], all_of_them: Iterator[Batch], crops: Crops | None, seed: int, world: World
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield each batch and its features (B, S), on the host; every rank calls this and gets all.

    `mine`, `all_of_them`: the same batches twice, for this rank's reading ahead and for the gathering.

    Raises:
        UserError: a sample cannot be read or decoded, or another process met such a mistake.
    """
    reader = Reader(images.index)
    parts: list[Tensor] = []
    try:
        own = islice(_micro_batches(mine, images.micro_batch), world.rank, None, world.size)
        features = _Encoder(images, reader, crops, seed).encode(own)
        rounds = _micro_batches(all_of_them, images.micro_batch)
        while together := list(islice(rounds, world.size)):
            for micro, values_BS in zip(together, gathered(features, len(together), world), strict=True):
                parts.append(torch.from_numpy(values_BS))
                if micro.ends is not None:
                    yield micro.ends, torch.cat(parts)
                    parts = []
    finally:
        reader.close()


@dataclass(frozen=True, eq=False)
class _MicroBatch:
    """A part of a batch; `ends` is the batch if this is its last part."""

    places_B: Ints
    epochs_B: Ints
    ends: Batch | None


def _micro_batches(batches: Iterator[Batch], size: int) -> Iterator[_MicroBatch]:
    for batch in batches:
        count = len(batch.places_B)
        for first in range(0, count, size):
            part = slice(first, first + size)
            yield _MicroBatch(batch.places_B[part], batch.epochs_B[part], batch if first + size >= count else None)


class _Encoder:
    """Reads, decodes, crops and encodes micro-batches."""

    def __init__(self, images: Images, reader: Reader, crops: Crops | None, seed: int) -> None:
        self._images, self._reader, self._seed = images, reader, seed
        self._crc32_N = images.index.samples["crc32"]
        self._augmentation = None if crops is None else augmentation_of(crops, images.preprocess.crop)

    def encode(self, micro_batches: Iterator[_MicroBatch]) -> Iterator[Tensor]:
        """Yield the features (B, S) of each, on the host; images are decoded ahead."""
        workers, sizes = max(1, self._images.workers), deque[int]()

        def lists() -> Iterator[Sequence[int]]:
            for micro in micro_batches:
                sizes.append(len(micro.places_B))
                epochs.extend(micro.epochs_B.tolist())
                yield micro.places_B.tolist()

        epochs = deque[int]()
        samples = ((sample, epochs.popleft()) for sample in self._reader.iterate_lists(lists()))
        views = ordered_map(self._view, samples, workers, ahead=AHEAD * workers)
        for first in views:
            rest = list(islice(views, sizes.popleft() - 1))
            with torch.inference_mode():
                values_BS = self._images.embedding.embed(torch.stack([first, *rest])).float().cpu()
            yield values_BS

    def _view(self, item: tuple[Sample, int]) -> Tensor:
        sample, epoch = item
        try:
            if epoch == CENTRAL or self._augmentation is None:
                return self._images.preprocess(sample.data)
            return crop_of(sample.data, self._augmentation, self._seed, epoch, int(self._crc32_N[sample.index]))
        except DecodeError as error:
            raise undecodable(sample.key, error) from error


def augmentation_of(crops: Crops, size: int) -> Augmentation:
    """Return random resized crops with flips and nothing else."""
    return Augmentation(
        size=size,
        scale=crops.scale,
        interpolation=crops.interpolation,
        flip=crops.flip,
        jitter=_NO_JITTER,
        grayscale=0.0,
        blur=0.0,
    )


def crop_of(data: bytes, augmentation: Augmentation, seed: int, epoch: int, content: int) -> Tensor:
    """Return the crop (3, size, size) uint8 of an encoded image in an epoch; content: its CRC-32.

    Raises:
        DecodeError: it cannot be decoded.
    """
    pixels_HWC = decode(data)
    height, width = (np.array([length]) for length in pixels_HWC.shape[:2])
    (row,) = draw(augmentation, seed, epoch, np.array([content], np.int64), 0, height, width)
    return torch.from_numpy(render(pixels_HWC, row, augmentation))
