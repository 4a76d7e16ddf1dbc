"""The loss of a term, and its mean over the samples that have a label: each kind of pairs over its own samples.

So partly labelled data trains a label's part on the labelled images, and a self-supervised part on all.

Shape legend: B samples of this rank's share, P pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hardviews.batch import Batch
from hardviews.collectives import sum_over_ranks, world_size
from hardviews.methods.method import Method
from hardviews.views.plan import Pair


class Group(NamedTuple):
    """Pairs of one part of a method, as rows of a matrix of pairs, with labels for the same samples (B,)."""

    part: str
    valid: Tensor | None
    rows: list[int]
    pairs: list[Pair]

    def of(self, losses_PB: Tensor) -> Tensor:
        """Return the group's rows of a matrix of pairs; the matrix itself if the group has all."""
        return losses_PB if len(self.rows) == len(losses_PB) else torch.stack([losses_PB[row] for row in self.rows])


def groups(method: Method, batch: Batch, pairs: Sequence[Pair]) -> list[Group]:
    """Return the pairs, grouped by part and by the samples with a label; for mixed views both labels count."""
    found: dict[tuple[str, int], Group] = {}
    for kind in dict.fromkeys(pair.kind for pair in pairs):
        of_kind = [(row, pair) for row, pair in enumerate(pairs) if pair.kind == kind]
        valid_B = _valid(method, batch, kind, [pair for _, pair in of_kind])
        part = of_kind[0][1].part
        group = found.setdefault((part, id(valid_B)), Group(part, valid_B, [], []))
        group.rows.extend(row for row, _ in of_kind)
        group.pairs.extend(pair for _, pair in of_kind)
    return list(found.values())


def anyone(method: Method, batch: Batch, pairs: Sequence[Pair]) -> Tensor | None:
    """Return a mask (B,) of the samples with a label of any of these pairs; None if all have one."""
    valid_B: Tensor | None = None
    for group in groups(method, batch, pairs):
        if group.valid is None:
            return None
        valid_B = group.valid if valid_B is None else valid_B | group.valid
    return valid_B


def _valid(method: Method, batch: Batch, kind: str, pairs: Sequence[Pair]) -> Tensor | None:
    known_B = valid_B = method.valid(batch, kind)
    if valid_B is None or known_B is None:
        return None
    for slot in dict.fromkeys(pair.online for pair in pairs):
        if slot in batch.mixes:
            valid_B = valid_B & known_B[batch.mixes[slot].partner.to(known_B.device, non_blocking=True)]
    return valid_B


@dataclass(frozen=True, eq=False)
class KnownLoss:
    """Losses (B,) of a term on this rank's samples, one for each group of pairs; 0 for a sample without a label."""

    parts: tuple[tuple[Group, Tensor], ...]

    @classmethod
    def of(cls, found: Sequence[Group], reduce: Callable[[Group], Tensor]) -> "KnownLoss":
        """Reduce every group of pairs to losses (B,)."""
        known = []
        for group in found:
            losses_B = reduce(group)
            known.append((group, losses_B if group.valid is None else torch.where(group.valid, losses_B, 0.0)))
        return cls(tuple(known))

    def per_sample(self) -> Tensor:
        """Return the loss of each sample (B,)."""
        (_, total_B), *others = self.parts
        for _, losses_B in others:
            total_B = total_B + losses_B
        return total_B

    def summed(self) -> Tensor:
        """Return the sum over samples, a scalar.

        If there are several groups, each counts as if all samples had its mean; so every rank calls this.
        """
        if len(self.parts) == 1:
            return self.parts[0][1].sum()
        sums = torch.stack([losses_B.sum() for _, losses_B in self.parts])
        if all(group.valid is None for group, _ in self.parts):
            return sums.sum()
        counts = sum_over_ranks(torch.stack([_count(group, losses_B) for group, losses_B in self.parts]))
        everyone = sum_over_ranks(torch.ones_like(self.parts[0][1], dtype=torch.int64).sum())
        return (sums * (everyone / counts.clamp(min=1)).to(sums.dtype)).sum()

    def mean(self, global_count: int, summed: Tensor | None = None) -> Tensor:
        """Return this rank's share of the mean over the samples of all ranks, scaled like `Losses.total`.

        `summed` is the sum over samples if it is made already.
        """
        total = self.summed() if summed is None else summed
        valid_B = self.parts[0][0].valid
        if len(self.parts) > 1 or valid_B is None:
            return total * (world_size() / global_count)
        counts = sum_over_ranks(torch.stack([valid_B.sum(), torch.ones_like(valid_B).sum()])).to(total.dtype)
        mean = total * (world_size() / counts[0].clamp(min=1))
        return mean * (counts[1] / global_count)

    def detached(self) -> "KnownLoss":
        """Return the same values without their graph."""
        return KnownLoss(tuple((group, losses_B.detach()) for group, losses_B in self.parts))

    def by_part(self) -> dict[str, Tensor]:
        """Return the losses (N,) of each part of a sum of methods, NaN for samples without a label; nothing else."""
        found: dict[str, Tensor] = {}
        for group, losses_B in self.parts:
            if group.part:
                values_B = losses_B.detach()
                if group.valid is not None:
                    values_B = torch.where(group.valid, values_B, torch.nan)
                found[group.part] = values_B if group.part not in found else found[group.part] + values_B
        return found


def _count(group: Group, losses_B: Tensor) -> Tensor:
    ones_B = torch.ones_like(losses_B, dtype=torch.int64) if group.valid is None else group.valid
    return ones_B.sum()
