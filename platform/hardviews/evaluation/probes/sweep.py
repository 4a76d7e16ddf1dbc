"""Linear classifiers, one for each setting of the optimiser, trained in one pass over cached features.

The heads share each batch and nothing else. Every product has the same shape as for a single head. So a head of a sweep
is equal, bit for bit, to the same head trained alone, on any number of processes.

Shape suffixes: N training samples, K those that are fitted, M others, B a batch, D features, L classes, H heads.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from hardviews.elastic.worker import advanced
from hardviews.evaluation.features.extract import Features
from hardviews.progress import progress
from hardviews.world import World

T = TypeVar("T")

_TILE = 4096  # rows that are scored at once


@dataclass(frozen=True)
class Head:
    """The settings of one head: SGD's learning rate for a batch of 256, and its weight decay."""

    rate: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """The settings that all heads share.

    epochs and batch: of SGD. momentum: of SGD. seed: of first weights and of the order of samples.
    """

    epochs: int = 100
    batch: int = 256
    momentum: float = 0.9
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Standard:
    """A scale and a shift of each feature: mean 0 and deviation 1 over the samples that are fitted.

    Features that do not vary keep their scale.
    """

    mean_D: Tensor
    scale_D: Tensor

    @staticmethod
    def of(values_ND: Tensor, rows_K: Tensor, on: bool = True) -> "Standard":
        """Measure some rows, in tiles and in double precision; without `on`, change nothing."""
        width = values_ND.shape[1]
        if not on:
            return Standard(torch.zeros(width), torch.ones(width))
        sum_D = torch.zeros(width, dtype=torch.double)
        for tile in rows_K.split(_TILE):
            sum_D += values_ND[tile].double().sum(0)
        mean_D = sum_D / len(rows_K)
        square_D = torch.zeros_like(sum_D)
        for tile in rows_K.split(_TILE):
            square_D += (values_ND[tile].double() - mean_D).square().sum(0)
        deviation_D = (square_D / len(rows_K)).sqrt()
        scale_D = torch.where(deviation_D > 1e-6, 1 / deviation_D.clamp(min=1e-6), 1.0)
        return Standard(mean_D.float(), scale_D.float())

    def __call__(self, values_BD: Tensor) -> Tensor:
        mean_D, scale_D = (value.to(values_BD.device) for value in (self.mean_D, self.scale_D))
        return (values_BD - mean_D) * scale_D


@dataclass(eq=False)
class Classifier:
    """A linear classifier of features: weight (D, L), bias (L,)."""

    weight_DL: Tensor
    bias_L: Tensor
    standard: Standard

    def scores(self, values_MD: Tensor, device: torch.device | None = None) -> Tensor:
        """Return the scores (M, L) of features, in tiles of fixed size, on the host."""
        weight_DL, bias_L = self.weight_DL.to(device), self.bias_L.to(device)
        tiles = [
            self.standard(tile_BD.to(weight_DL.device)).to(weight_DL.dtype) @ weight_DL + bias_L
            for tile_BD in values_MD.split(_TILE)
        ]
        return torch.cat([tile_BL.cpu() for tile_BL in tiles])


@dataclass(eq=False)
class _Trained:
    """A head in training; it has its own tensors, so that their layout in memory is the same as for a single head."""

    head: Head
    weight_DL: Tensor
    bias_L: Tensor
    moved_DL: Tensor = field(init=False)
    moved_L: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.moved_DL, self.moved_L = torch.zeros_like(self.weight_DL), torch.zeros_like(self.bias_L)

    def step(self, values_BD: Tensor, labels_B1: Tensor, factor: float, momentum: float) -> None:
        """Take a step of SGD with momentum on the mean cross-entropy; `factor` scales the learning rate."""
        scores_BL = torch.addmm(self.bias_L, values_BD, self.weight_DL)
        gradient_BL = scores_BL.softmax(1)
        gradient_BL.scatter_add_(1, labels_B1, torch.full_like(labels_B1, -1, dtype=gradient_BL.dtype))
        gradient_BL /= len(values_BD)
        # The decay of the velocity is a part of the product.
        torch.addmm(self.moved_DL, values_BD.T, gradient_BL, beta=momentum, out=self.moved_DL)
        if self.head.weight_decay:
            self.moved_DL.add_(self.weight_DL, alpha=self.head.weight_decay)
        self.moved_L.mul_(momentum).add_(gradient_BL.sum(0))
        self.weight_DL.sub_(self.moved_DL, alpha=self.head.rate * factor)
        self.bias_L.sub_(self.moved_L, alpha=self.head.rate * factor)


def train_heads(
    heads: Sequence[Head],
    train: Features,
    rows_K: Tensor,
    classes: int,
    schedule: Schedule,
    standard: Standard,
    world: World,
    title: str = "linear heads",
) -> dict[int, Classifier]:
    """Train some heads on some rows; return this rank's share of them, every so many-th, by their numbers.

    SGD with momentum, cosine schedule by epochs; weights begin at N(0, 0.01), biases at 0 (MoCo, SimSiam).
    """
    device = world.device
    generator = torch.Generator().manual_seed(schedule.seed)
    first_DL = torch.randn(train.values_ND.shape[1], classes, generator=generator) * 0.01
    trained = {
        number: _Trained(head, first_DL.to(device, copy=True), torch.zeros(classes, device=device))
        for number, head in enumerate(heads)
        if number % world.size == world.rank
    }
    if not trained:
        return {}
    batch = min(schedule.batch, len(rows_K))
    with _mapper(device, len(trained)) as map_heads:
        for epoch in progress(range(schedule.epochs), schedule.epochs, title, show=world.leads):
            advanced()
            order_K = rows_K[torch.randperm(len(rows_K), generator=generator)]
            # Learning rates are for a batch of 256 (Goyal et al. 2017) and fall once an epoch.
            factor = batch / 256 * 0.5 * (1 + math.cos(math.pi * epoch / schedule.epochs))
            for rows_B in order_K.split(batch):
                values_BD = standard(train.values_ND[rows_B].to(device))
                labels_B1 = train.labels_N[rows_B].to(device)[:, None]
                step = partial(
                    _Trained.step, values_BD=values_BD, labels_B1=labels_B1, factor=factor, momentum=schedule.momentum
                )
                for _ in map_heads(step, trained.values()):
                    pass
    return {number: Classifier(one.weight_DL, one.bias_L, standard) for number, one in trained.items()}


@contextmanager
def _mapper(device: torch.device, heads: int) -> Iterator[Callable[..., Iterable[None]]]:
    """Yield `map`, on a CPU with several heads at a time: a product of one head is too small for several threads."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or min(threads, heads) < 2:
        yield map
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


def shared(values: dict[int, T], world: World) -> dict[int, T]:
    """Return the values of all ranks, each with a number of its own, on every rank."""
    return {number: value for part in world.together(lambda: values) for number, value in part.items()}
