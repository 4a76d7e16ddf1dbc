"""Faults that break law 8, and settings that try it harder; contexts by name, so that they reach other processes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import hardviews.objective
from hardviews import collectives
from hardviews.collectives import rank
from hardviews.methods import swav
from hardviews.models import batchnorm
from hardviews.objective import Objective
from hardviews.strategies.mix import Mixing
from hardviews.views.random import Purpose, permutation_in_groups
from tests.laws import toys


def local_slice(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
    first = sum(ctx.counts[: rank()])
    return grads[0][first : first + ctx.counts[rank()]], None


def partners_by_rank(self: Mixing, batch: Any, stream: int) -> Tensor:
    clock = batch.clock
    seed = clock.seed + rank() + 1
    return permutation_in_groups(seed, Purpose.PARTNER, clock.epoch, batch.position, batch.group, stream)


def mean_of_own(self: Objective, term: Any, global_count: int) -> tuple[Tensor, Tensor]:
    losses_B = self.reduce(self.pairwise(term.batch)[0])
    return losses_B.mean(), losses_B


def first_share_unmixed(self: Mixing, batch: Any, stream: int) -> Tensor:
    return torch.where(batch.position % 12 < 8, 1.0, 0.5).double()


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "as it is": nullcontext,
    "a gather whose backward keeps the local slice": lambda: patch.object(
        collectives._Gather, "backward", staticmethod(local_slice)
    ),
    "BatchNorm of local statistics": lambda: patch.object(batchnorm, "world_size", lambda: 1),
    "partners keyed by rank": lambda: patch.object(Mixing, "partners", partners_by_rank),
    "every rank averages its own rows": lambda: patch.object(Objective, "_term", mean_of_own),
    "valid rows counted by each rank": lambda: patch.object(hardviews.objective, "sum_over_ranks", lambda x: x),
    "a centre of local rows": lambda: patch.object(toys, "sum_over_ranks", lambda x: x),
    "codes and a queue of local rows": lambda: patch.object(swav, "gather_rows", lambda x: (x, 0)),
    "a queue of local keys": lambda: patch.object(toys, "gather_rows", lambda x: (x, 0)),
    "nothing mixed in the first share": lambda: patch.object(Mixing, "weights", first_share_unmixed),
}
