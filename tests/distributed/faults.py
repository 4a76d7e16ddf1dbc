"""Faults that break law 8, and settings that try it harder; contexts by name, so that they reach other processes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from hardviews import collectives
from hardviews.clock import Clock
from hardviews.collectives import rank
from hardviews.methods import barlowtwins, blocks, centre, memory_bank, moco, shuffle, simclr, swav, vicreg
from hardviews.models import batchnorm, groups
from hardviews.objective import known_loss
from hardviews.objective.objective import Objective
from hardviews.strategies import candidates, random_views
from hardviews.strategies.candidates import draw_ranks
from hardviews.strategies.mix import Mixing
from hardviews.train.compilation import compile_networks
from hardviews.views.random import Purpose, permutation_in_groups, uniform
from tests.laws import toys
from tests.laws.cases import build

averaged = Objective._averaged


def local_slice(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
    first = sum(ctx.counts[: rank()])
    return grads[0][first : first + ctx.counts[rank()]], None


def partners_by_rank(self: Mixing, batch: Any, stream: int) -> Tensor:
    clock = batch.clock
    seed = clock.seed + rank() + 1
    return permutation_in_groups(seed, Purpose.PARTNER, clock.epoch, batch.position, batch.group, stream)


def mean_of_own(self: Objective, term: Any, global_count: int) -> tuple[Tensor, known_loss.KnownLoss]:
    loss = self._known(term.batch, self.pairwise(term.batch)[0], self.pairs)
    return loss.per_sample().mean(), loss


def first_share_unmixed(self: Mixing, batch: Any, stream: int) -> Tensor:
    return torch.where(batch.position % 12 < 8, 1.0, 0.5).double()


def choice_by_place(seed: int, purpose: Purpose, epoch: int, position: Tensor, stream: int, n: int) -> Tensor:
    return uniform(seed, purpose, epoch, torch.arange(len(position)), stream, n)


def ranks_by_rank(total: int, limit: int, clock: Clock) -> list[int]:
    return draw_ranks(total, limit, replace(clock, seed=clock.seed + rank()))


def own_assignments(self: Objective, term: Any) -> Tensor:
    return averaged(self, replace(term, assignments=term.assignments[rank() :]))


def own_order(position: Tensor, device: torch.device) -> Tensor:
    return position.to(device).argsort(stable=True)


@contextmanager
def similarities_in_blocks() -> Iterator[None]:
    """Make the similarities of contrastive losses in blocks of 3 x 3."""
    made = blocks._blocks

    def small(anchors_BD: Tensor, candidates_GD: Tensor, block: int) -> Any:
        return made(anchors_BD, candidates_GD, 3)

    with (
        patch.object(simclr, "few", lambda *_: False),
        patch.object(moco, "few", lambda *_: False),
        patch.object(blocks, "_blocks", small),
    ):
        yield


def compiled(*arguments: Any) -> Objective:
    objective = build(*arguments)
    # Statistics over ranks and their gradient are traced too.
    compile_networks(objective.method, objective.strategy.reads_clean_gradient, "aot_eager")
    return objective


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "as it is": nullcontext,
    "compiled": lambda: patch("tests.distributed.laws.build", compiled),
    "a gather whose backward keeps the local slice": lambda: patch.object(
        collectives._Gather, "backward", staticmethod(local_slice)
    ),
    "BatchNorm of local statistics": lambda: patch.object(batchnorm, "world_size", lambda: 1),
    "partners keyed by rank": lambda: patch.object(Mixing, "partners", partners_by_rank),
    "every rank averages its own rows": lambda: patch.object(Objective, "_term", mean_of_own),
    "valid rows counted by each rank": lambda: patch.object(known_loss, "sum_over_ranks", lambda x: x),
    "valid rows of each kind counted by each rank": lambda: patch.object(known_loss, "sum_over_ranks", lambda x: x),
    "a centre of local rows": lambda: patch.object(toys, "sum_over_ranks", lambda x: x),
    "codes and a queue of local rows": lambda: patch.multiple(
        swav, gather_rows=lambda x: (x, 0), order_of_rows=own_order
    ),
    "variances of local rows": lambda: patch.object(vicreg, "gather_rows", lambda x: (x, 0)),
    "correlations of local rows": lambda: patch.object(barlowtwins, "sum_over_ranks", lambda x: x),
    "a bank of local rows": lambda: patch.object(memory_bank, "gather_rows", lambda x: (x, 0)),
    "a teacher's centre of local rows": lambda: patch.object(centre, "sum_over_ranks", lambda x: x),
    "a queue of local keys": lambda: patch.object(toys, "gather_rows", lambda x: (x, 0)),
    "chance keyed by place in the share": lambda: patch.object(random_views, "uniform", choice_by_place),
    "assignments drawn by rank": lambda: patch.object(candidates, "draw_ranks", ranks_by_rank),
    "an average over the rank's own assignments": lambda: patch.object(Objective, "_averaged", own_assignments),
    "MoCo's queue of local keys": lambda: patch.multiple(moco, gather_rows=lambda x: (x, 0), order_of_rows=own_order),
    "keys shuffled by each rank alone": lambda: patch.object(shuffle, "gather_rows", lambda x: (x, 0)),
    "running statistics of own groups": lambda: patch.object(groups, "sum_over_ranks", lambda x: x),
    "similarities in blocks": similarities_in_blocks,
    "nothing mixed in the first share": lambda: patch.object(Mixing, "weights", first_share_unmixed),
}
