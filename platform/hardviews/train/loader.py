"""From shards to batches: workers read, decode and render; the step gets views.

Host rendering ships every candidate view as uint8. Device rendering ships one canvas an image and the parameters, so
more candidates do not cost more decoding or copying.

Shape legend: B samples of this rank's share, C columns of parameters.
"""

import logging
import os
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hardviews.batch import Batch, Samples, View
from hardviews.checked import at_least, require
from hardviews.clock import Clock
from hardviews.data.counters import Counters
from hardviews.data.order import Order
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.data.sample import Sample, Share
from hardviews.data.shares import Portion
from hardviews.elastic.environment import launched
from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.objective.objective import Objective
from hardviews.train.crew import TRIES, Crew, Lost
from hardviews.train.nursery import leave_with_parent
from hardviews.train.parcel import Parcel
from hardviews.views import host
from hardviews.views.augmentation import Augmentation
from hardviews.views.decode import decode
from hardviews.views.halved import Halved
from hardviews.views.params import draw, geometry
from hardviews.views.pixels import Canvas, Crops, Pixels
from hardviews.views.plan import Plan, Slot

logger = logging.getLogger(__name__)

Decoded = tuple[Sample, npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class LoaderConfig:
    """Settings of the making of batches.

    Attributes:
        reader: settings of the reader of samples.
        workers: processes a rank; None takes the cores of the rank, less one.
        renderer: renderer of views; `auto` renders on a GPU if there is one.
        canvas: side in pixels of the square that holds an image if the device renders its views. An image with a longer
            side is shrunk to it first, and loses detail.
        ahead: batches that each worker makes in advance.
    """

    reader: ReaderConfig = field(default_factory=ReaderConfig)
    workers: int | None = None
    renderer: Literal["auto", "host", "device"] = "auto"
    canvas: int = 512  # holds ImageNet's typical 500 x 375 as it is
    ahead: int = 2

    def __post_init__(self) -> None:
        """Refuse invalid counts."""
        require(self, "loader", workers=at_least(0).or_none(), canvas=at_least(1), ahead=at_least(1))

    def on_device(self, device: torch.device) -> bool:
        """Return whether views are rendered on the device."""
        return self.renderer == "device" or (self.renderer == "auto" and device.type == "cuda")

    def worker_count(self) -> int:
        """Return the number of worker processes of this rank."""
        if self.workers is not None:
            return self.workers
        return max(0, len(os.sched_getaffinity(0)) // launched().local_size - 1)


@dataclass
class RawBatch:
    """The batch of a worker: parameters and uint8 pixels of one micro-batch's share.

    Attributes:
        pixels: pixels by candidate (B, 3, H, W), or under None one canvas (B, 3, S, S).
        rows: parameters by candidate (B, C) float32.
        bad: samples that this worker newly found corrupt, and why.
        named: `index`, but for the substitute of a corrupt sample the sample in the order.
        plain: pixels by candidate without colours, of pools with `geometry`.
        labels: labels (B,) int64, -1 for none; None unless the method is `labelled`.
    """

    stop: int
    index: Tensor
    named: Tensor
    position: Tensor
    rows: dict[Slot, Tensor]
    pixels: dict[Slot | None, Tensor]
    counters: Counters
    bad: dict[int, str] = field(default_factory=dict)
    plain: dict[Slot, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None

    def pin_memory(self) -> "RawBatch":
        """Move the pixels to pinned memory; the data loader calls this for a GPU."""
        self.pixels = {slot: tensor.pin_memory() for slot, tensor in self.pixels.items()}
        self.plain = {slot: tensor.pin_memory() for slot, tensor in self.plain.items()}
        return self


@dataclass(frozen=True)
class Refusal:
    """A user's mistake that a worker met; the training process raises it."""

    message: str

    def pin_memory(self) -> "Refusal":
        """Return it as it is."""
        return self


@dataclass(frozen=True)
class Crash:
    """A mistake in the code that a worker met, as text: not every exception can be sent."""

    traceback: str

    def pin_memory(self) -> "Crash":
        """Return it as it is."""
        return self


class ShareDataset(IterableDataset[RawBatch | Parcel | Refusal | Crash]):
    """The shares of this rank in an epoch's micro-batches, in order, split among the data loader's workers."""

    def __init__(
        self, reader: Reader, plan: Plan, portion: Portion, canvas: int | None, epochs: int, labelled: bool = False
    ) -> None:
        """Store the portion to read up to the end of the last epoch; nothing is opened before a worker iterates.

        `labelled` is whether batches hold the images' labels.
        """
        self.reader, self.plan, self.portion, self.canvas, self.epochs = reader, plan, portion, canvas, epochs
        self.labelled = labelled
        self._told: set[int] = set()

    def after(self, batches: int) -> tuple["ShareDataset", int]:
        """Return the dataset after `batches` micro-batches, and the number of its first micro-batches to skip.

        A dataset begins with a whole global batch.
        """
        portion, steps = self.portion, batches // self.portion.accumulate
        while steps:
            length = self._order(portion).length
            now = min(steps, (length - portion.consumed) // portion.global_batch)
            portion, steps = replace(portion, consumed=portion.consumed + now * portion.global_batch), steps - now
            if steps:
                portion = replace(portion, epoch=portion.epoch + 1, consumed=0)
        rest = copy(self)
        rest.portion, rest._told = portion, set()
        return rest, batches % self.portion.accumulate

    def __iter__(self) -> Iterator[RawBatch | Parcel | Refusal | Crash]:
        """Yield every micro-batch's share from the portion's place on, epoch after epoch.

        The data loader asks its workers in turn, so worker w makes the micro-batches w, w + workers, ...
        """
        info = torch.utils.data.get_worker_info()
        if info is None:
            try:
                yield from self._batches(0, 1)
            finally:
                self.reader.close()  # ends a wait for a store
            return
        leave_with_parent()
        # One thread a worker: the workers are the parallelism.
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        try:
            for batch in self._batches(info.id, info.num_workers):
                yield Parcel(batch)
        except UserError as error:
            # If it were raised here, the data loader would wrap it into a traceback.
            yield Refusal(str(error))
        except MemoryError:
            yield Refusal(
                "The memory of a loader worker ran out. Give the job more memory, or lower --loader.workers, "
                "--loader.ahead or --loader.canvas."
            )
        except Exception as error:
            remedy = of_machine(error, "a loader worker")
            yield Refusal(remedy.words) if remedy else Crash(traceback.format_exc())

    def _batches(self, worker: int, workers: int) -> Iterator[RawBatch]:
        portion, made = self.portion, 0
        while portion.epoch < self.epochs:
            shares = self.reader.iterate(portion, worker=(worker - made) % workers, workers=workers, fn=_decode)
            yield from (self._collate(share, portion) for share in shares)
            length = self._order(portion).length
            made += (length - portion.consumed) // portion.global_batch * portion.accumulate
            portion = replace(portion, epoch=portion.epoch + 1, consumed=0)

    def _order(self, portion: Portion) -> Order:
        return self.reader.order(portion.seed, portion.epoch, portion.global_batch, portion.group)

    def _collate(self, share: Share[Decoded], portion: Portion) -> RawBatch:
        """Draw the parameters of every candidate for the whole share, and render them unless the device does."""
        samples, images = zip(*share.samples, strict=True)
        height, width = (np.array([image.shape[d] for image in images]) for d in (0, 1))
        position = np.array([sample.position for sample in samples])
        rows: dict[Slot, Tensor] = {}
        pixels: dict[Slot | None, Tensor] = {}
        plain: dict[Slot, Tensor] = {}
        for slot in self.plan.candidates:
            pool = self.plan.pool(slot.pool)
            augmentation = pool.augmentation
            number = self.plan.view_number(slot)
            drawn = draw(augmentation, portion.seed, portion.epoch, position, number, height, width)
            rows[slot] = torch.from_numpy(drawn)
            if self.canvas is None:
                pixels[slot] = _rendered(images, drawn, augmentation)
                if pool.geometry is not None:
                    small = replace(augmentation.geometry, size=pool.geometry)
                    plain[slot] = _rendered(images, geometry(drawn), small)
        if self.canvas is not None:
            canvases = [host.lay(image, self.canvas, self.canvas) for image in images]
            pixels[None] = torch.from_numpy(np.stack(canvases))
        index = torch.tensor([sample.index for sample in samples], dtype=torch.int64)
        bad = {i: reason for i, reason in self.reader.bad.items() if i not in self._told}
        self._told.update(bad)
        named = index.clone()
        if share.counters.substituted:
            order = self._order(portion)
            for i, asked in enumerate(order.indices(share.first, share.last)):
                if int(asked) in self.reader.bad:
                    named[i] = int(asked)
        labels = torch.tensor([sample.label for sample in samples]) if self.labelled else None
        place = torch.from_numpy(position)
        return RawBatch(share.stop, index, named, place, rows, pixels, share.counters, bad, plain, labels)


def _rendered(
    images: Sequence[npt.NDArray[np.uint8]], rows: npt.NDArray[np.float32], augmentation: Augmentation
) -> Tensor:
    """Render a view of every image on the host, (B, 3, H, W)."""
    made = [host.render(image, row, augmentation) for image, row in zip(images, rows, strict=True)]
    return torch.from_numpy(np.stack(made))


def _decode(sample: Sample) -> Decoded:
    return sample, decode(sample.data)


def load(config: LoaderConfig, dataset: ShareDataset, device: torch.device) -> Generator[RawBatch, None, None]:
    """Yield the batches from the dataset's place to the end of the run, in order for any number of workers.

    If a worker ends, others make its batches again. Closing the generator ends the workers, also a worker that waits
    for a store.

    Raises:
        UserError: a worker met a mistake of the user; or workers end again and again without a batch.
    """
    workers = config.worker_count()
    if not workers:
        yield from DataLoader(dataset, batch_size=None, pin_memory=device.type == "cuda")
        return
    taken = failures = 0
    while True:
        rest, leave_out = dataset.after(taken)
        try:
            with closing(_by_workers(config, workers, rest, device)) as batches:
                for number, batch in enumerate(batches):
                    if number >= leave_out:
                        failures, taken = 0, taken + 1
                        yield batch
            return
        except Lost as error:
            failures += 1
            if failures >= TRIES:
                raise UserError(
                    f"Loader workers failed {failures} times in a row and made no batch in between: {error}"
                ) from error
            logger.warning("a loader worker is lost, its batches are made again: %s", error)


def _by_workers(
    config: LoaderConfig, workers: int, dataset: ShareDataset, device: torch.device
) -> Generator[RawBatch, None, None]:
    crew = Crew(
        DataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            prefetch_factor=config.ahead,
            # Workers started from a clean process (see `nursery`): clients of object stores do not survive a fork.
            multiprocessing_context="forkserver",
        )
    )
    try:
        for content in crew:
            if isinstance(content, Refusal):
                raise UserError(content.message)
            if isinstance(content, Crash):
                raise RuntimeError(f"a loader worker failed: {content.traceback}")
            yield content
    finally:
        crew.close()


def to_batch(raw: RawBatch, objective: Objective, clock: Clock, group: int, device: torch.device) -> Batch:
    """Move a raw batch to the device as views."""
    plan, method = objective.plan, objective.method
    pixels = {slot: tensor.to(device, non_blocking=True) for slot, tensor in raw.pixels.items()}
    plain = {slot: tensor.to(device, non_blocking=True) for slot, tensor in raw.plain.items()}
    copies = Halved(pixels[None], next(iter(raw.rows.values()))) if None in pixels else None
    views = {}
    for slot in plan.candidates:
        pool = plan.pool(slot.pool)
        rows = raw.rows[slot].to(device, non_blocking=True)
        normalisation = pool.augmentation.normalisation
        source: Pixels = (
            Canvas(pixels[None], rows, pool.augmentation, copies)
            if None in pixels
            else Crops(pixels[slot], normalisation, plain.get(slot))
        )
        mask = method.mask(slot, plan.view_number(slot), clock, raw.position)
        mask = mask if mask is None else mask.to(device, non_blocking=True)
        views[slot] = View(slot, source, normalisation, rows=rows, target=pool.target, mask=mask)
    labels = raw.labels.to(device, non_blocking=True) if method.labelled and raw.labels is not None else None
    return Batch(views, clock, Samples(raw.index, raw.position), group, labels=labels)
