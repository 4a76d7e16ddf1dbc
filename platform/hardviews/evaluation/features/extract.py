"""Features of a packed dataset under a frozen map, computed once by all processes together.

Micro-batches are fixed by the places of their samples in the index; each is encoded by one process. So the features
are the same, bit for bit, for any number of processes.

Shape suffixes: N samples, B a micro-batch of them, D features.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from hardviews.data.index import Index
from hardviews.data.reader import Reader
from hardviews.data.sample import Sample
from hardviews.elastic.worker import advanced
from hardviews.errors import UserError
from hardviews.evaluation.features.cache import FeatureFile, FeatureKey, locked
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.sources import Embedding
from hardviews.ordered_map import ordered_map
from hardviews.progress import progress
from hardviews.views.decode import DecodeError
from hardviews.world import World

AHEAD = 64
"""Images that may be decoded and wait, for each thread."""
_WIDEST = 4096  # features of the widest backbone in use, by which room on the disk is made


class NotFinite(UserError):
    """An encoder returned features that are not finite."""


@dataclass(frozen=True, eq=False)
class Features:
    """Features (N, D) float32 and labels (N,) int64, on the host, in the order of the dataset's index.

    sets_NL: int8, the label sets of images that may have several classes (`Index.label_sets`); labels are then -1.
    """

    values_ND: Tensor
    labels_N: Tensor
    sets_NL: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    @staticmethod
    def unread(index: Index) -> "Features":
        """Return the labels of a dataset with no features, for protocols that read its images themselves."""
        return Features(torch.empty(len(index), 0), torch.from_numpy(index.labels))

    def rows(self, chosen: Tensor) -> "Features":
        """Return some of the samples, by their places or by a mask."""
        sets_NL = None if self.sets_NL is None else self.sets_NL[chosen]
        return Features(self.values_ND[chosen], self.labels_N[chosen], sets_NL)


def extract(
    index: Index,
    embedding: Embedding,
    preprocess: Preprocess,
    world: World,
    *,
    batch_size: int = 256,
    workers: int = 4,
    precision: str = "float32",
    title: str = "features",
) -> Features:
    """Return the features of all samples of a dataset, from this machine's cache as far as they are there.

    `batch_size`: size of a micro-batch. `workers`: threads that decode images. Every rank calls this and
    gets all features.

    Raises:
        UserError: the dataset is empty; a sample cannot be read or decoded; a feature is not finite; or another process
        met such a mistake.
    """
    if not len(index):
        raise UserError(f"Evaluation: the dataset at {index.url} is empty; pack at least one image of each class.")
    key = FeatureKey(
        embedding=embedding.digest,
        data=index.digest,
        resize=preprocess.resize,
        crop=preprocess.crop,
        precision=precision,
        device=world.device.type,
        micro_batch=batch_size,
        interpolation=preprocess.interpolation,
    )
    with ExitStack() as stack:
        # One of all processes that share a folder writes; the others read its files.
        file = stack.enter_context(locked(key, len(index), _WIDEST, world))
        missing = _missing(file, world)
        if missing:
            batches = _Batches(index, embedding, preprocess, batch_size, workers)
            stack.callback(batches.close)
            rounds = [missing[start : start + world.size] for start in range(0, len(missing), world.size)]
            mine = [numbers[world.rank] for numbers in rounds if world.rank < len(numbers)]
            encoded = batches.encode(mine)
            for numbers in progress(rounds, len(rounds), title, show=world.leads):
                for number, values_BD in zip(numbers, gathered(encoded, len(numbers), world), strict=True):
                    if file is not None:
                        file.write(number, values_BD)
                advanced()
        if world.size > 1:
            dist.barrier()
        if file is None:
            file = FeatureFile.of(key, len(index))
        values_ND = torch.from_numpy(file.open())
    _check_finite(values_ND)
    sets_NL = None if index.label_sets is None else torch.from_numpy(np.array(index.label_sets))
    return Features(values_ND, torch.from_numpy(index.labels), sets_NL)


def _missing(file: FeatureFile | None, world: World) -> list[int]:
    """Return the micro-batches that any file lacks, in order; every rank calls this."""
    return sorted(set().union(*world.together(lambda: [] if file is None else file.missing)))


class _Batches:
    """Reads, decodes and encodes micro-batches by their numbers."""

    def __init__(self, index: Index, embedding: Embedding, preprocess: Preprocess, size: int, workers: int) -> None:
        self._reader = Reader(index)
        self._embed, self._preprocess = embedding.embed, preprocess
        self._size, self._total, self._workers = size, len(index), max(1, workers)

    def encode(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        """Yield the features (B, D) of each micro-batch, on the host."""
        places = [range(n * self._size, min(self._total, (n + 1) * self._size)) for n in numbers]
        samples = self._reader.iterate_ranges(places)
        images = ordered_map(self._load, samples, self._workers, ahead=AHEAD * self._workers)
        for batch in places:
            with torch.inference_mode():
                values_BD = self._embed(torch.stack([next(images) for _ in batch])).float().cpu()
            yield values_BD

    def close(self) -> None:
        self._reader.close()

    def _load(self, sample: Sample) -> Tensor:
        try:
            return self._preprocess(sample.data)
        except DecodeError as error:
            raise undecodable(sample.key, error) from error


def gathered(encoded: Iterator[Tensor], count: int, world: World) -> list[np.ndarray]:
    """Return the features of a round's micro-batches, one of each of the first `count` ranks; every rank calls this."""
    values_BD = torch.empty(0, 0)

    def encode() -> tuple[int, int]:
        nonlocal values_BD
        if world.rank < count:
            values_BD = next(encoded)
        return values_BD.shape[0], values_BD.shape[1]

    filled = [shape for shape in world.together(encode) if shape[0]]
    if world.size == 1:
        return [values_BD.numpy()]
    padded_BD = torch.zeros(max(rows for rows, _ in filled), filled[0][1], device=world.device)
    padded_BD[: len(values_BD), : values_BD.shape[1]] = values_BD
    parts = [torch.empty_like(padded_BD) for _ in range(world.size)]
    dist.all_gather(parts, padded_BD)
    return [part[:rows].cpu().numpy() for part, (rows, _) in zip(parts, filled, strict=False)]


def undecodable(key: str, error: DecodeError) -> UserError:
    """Return the answer to an image that cannot be decoded."""
    return UserError(
        f"The image {key!r} cannot be decoded ({error}). Pack the dataset again: packing leaves out images that it "
        "cannot decode."
    )


def _check_finite(values_ND: Tensor) -> None:
    for start in range(0, len(values_ND), 4096):
        if not torch.isfinite(values_ND[start : start + 4096]).all():
            raise NotFinite("Evaluation: the encoder returned features that are not finite; its training diverged.")
