"""The views of a step: slots, the pools that feed them, pairs, and assignments.

A method names *slots* (first view, second view, local crops). Slots that draw from the same augmentation form a *pool*.
A strategy may ask a pool for more *candidates* than it has slots; an *assignment* maps slots to candidates. Candidate i
of a pool has the same name as slot i, so without a selection the first candidates are the views.

Shape legend: A assignments, S slots, P pairs, Q pairs of candidates.
"""

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hardviews.errors import UserError
from hardviews.views.augmentation import Augmentation


class Slot(NamedTuple):
    """Names a slot of a pool, and equally the candidate of that number."""

    pool: str
    number: int


@dataclass(frozen=True)
class Pool:
    """Slots that draw their views from one augmentation, and the number of candidates for them.

    `target` is whether the target side may use these views; for local crops it is false. `geometry` is the side in
    pixels at which candidates are also available without colours; None if nothing needs that.
    """

    name: str
    slots: int
    augmentation: Augmentation
    target: bool = True
    candidates: int = 0
    geometry: int | None = None

    def __post_init__(self) -> None:
        """Default to as many candidates as slots."""
        if self.slots < 1:
            raise UserError(f"Pool {self.name!r} has {self.slots} slots; a pool needs at least one.")
        if self.candidates == 0:
            object.__setattr__(self, "candidates", self.slots)
        if self.candidates < self.slots:
            raise UserError(
                f"Pool {self.name!r} fills {self.slots} slots but draws only {self.candidates} candidates. "
                f"Ask for at least {self.slots}."
            )


@dataclass(frozen=True)
class Pair:
    """The online view of one slot predicts the target of another slot, or of a table with a slot's name.

    `kind` separates losses that are computed in different ways (iBOT: class and patch).
    """

    online: Slot
    target: Slot
    weight: float
    kind: str = "class"

    @property
    def part(self) -> str:
        """Part of a sum of methods that the pair belongs to: "0" of the kind "0/class"; empty if there is none."""
        return self.kind.rpartition("/")[0]


def of_kinds(pairs: Sequence[Pair], kinds: Collection[str] | None) -> tuple[Pair, ...]:
    """Return the pairs of some kinds or parts of a sum; all pairs for None."""
    if kinds is None:
        return tuple(pairs)
    return tuple(pair for pair in pairs if any(pair.kind == kind or pair.kind.startswith(f"{kind}/") for kind in kinds))


def of_views(pairs: Sequence[Pair], online: Collection[Slot]) -> tuple[Pair, ...]:
    """Return the pairs of some online views, with weights scaled so that the sum for each kind stays the same.

    A kind of weight zero, such as one of iBOT's losses that is left out, keeps weight zero.
    """
    sums = {pair.kind: [0.0, 0.0] for pair in pairs}
    for pair in pairs:
        sums[pair.kind][0] += pair.weight
        sums[pair.kind][1] += pair.weight * (pair.online in online)
    return tuple(
        replace(pair, weight=pair.weight * (sums[pair.kind][0] / sums[pair.kind][1]) if pair.weight else 0.0)
        for pair in pairs
        if pair.online in online
    )


@dataclass(frozen=True)
class Plan:
    """The pools of a step, in a fixed order."""

    pools: tuple[Pool, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All slots, pool by pool."""
        return tuple(Slot(pool.name, i) for pool in self.pools for i in range(pool.slots))

    @property
    def candidates(self) -> tuple[Slot, ...]:
        """All candidates, pool by pool."""
        return tuple(Slot(pool.name, i) for pool in self.pools for i in range(pool.candidates))

    def pool(self, name: str) -> Pool:
        """Return the pool of that name."""
        return next(pool for pool in self.pools if pool.name == name)

    def view_number(self, slot: Slot) -> int:
        """Return the view number of a candidate: it does not depend on the number of candidates."""
        return [pool.name for pool in self.pools].index(slot.pool) << 16 | slot.number

    def with_candidates(self, candidates: Mapping[str, int]) -> "Plan":
        """Return the plan with another number of candidates in the named pools."""
        return Plan(tuple(replace(p, candidates=candidates.get(p.name, p.candidates)) for p in self.pools))

    def with_geometry(self, sizes: Mapping[str, int | None]) -> "Plan":
        """Return the plan in which candidates of the named pools are also available without colours, at these sizes."""
        return Plan(tuple(replace(p, geometry=sizes.get(p.name, p.geometry)) for p in self.pools))

    def assignments(self, pairs: Sequence[Pair], ranks: Sequence[int] | None = None) -> Tensor:
        """List assignments as candidate numbers per slot.

        Return an int64 tensor (A, S). The first row is the identity (the first candidates). Inside a pool the order of
        candidates counts only if an exchange of its slots changes the pairs. A pool with as many candidates as slots
        has no choice and keeps the identity. `ranks` picks rows of the full list without building it.
        """
        ranks = range(self.count(pairs)) if ranks is None else ranks
        return torch.tensor([self._unrank(rank, pairs) for rank in ranks], dtype=torch.int64)

    def count(self, pairs: Sequence[Pair]) -> int:
        """Return the number of assignments."""
        return math.prod(_ways(pool, is_ordered(pool.name, pool.slots, tuple(pairs))) for pool in self.pools)

    def _unrank(self, rank: int, pairs: Sequence[Pair]) -> list[int]:
        row: list[int] = []
        for pool in reversed(self.pools):
            ordered = is_ordered(pool.name, pool.slots, tuple(pairs))
            rank, inside = divmod(rank, _ways(pool, ordered))
            pick = _unrank_permutation if ordered else _unrank_combination
            row = pick(inside, pool.candidates, pool.slots) + row
        return row


def _ways(pool: Pool, ordered: bool) -> int:
    if pool.candidates == pool.slots:
        return 1
    return (math.perm if ordered else math.comb)(pool.candidates, pool.slots)


# Called for every listed assignment. Growing weights make other pairs in every step.
@functools.lru_cache(1024)
def is_ordered(pool: str, slots: int, pairs: tuple[Pair, ...]) -> bool:
    """Return whether an exchange of two neighbouring slots of a pool changes the set of pairs."""
    for i in range(slots - 1):
        a, b = Slot(pool, i), Slot(pool, i + 1)
        exchange = {a: b, b: a}
        exchanged = [
            replace(p, online=exchange.get(p.online, p.online), target=exchange.get(p.target, p.target)) for p in pairs
        ]
        if sorted(map(repr, exchanged)) != sorted(map(repr, pairs)):
            return True
    return False


def candidate_pairs(slots: Sequence[Slot], pairs: Sequence[Pair], table: Tensor) -> tuple[list[Pair], Tensor]:
    """Return the pairs of candidates for the pairs of slots under some assignments (A, S).

    Each pair occurs once and has weight 1. A second result (A, P) is the number of the pair of candidates for each pair
    of slots under each assignment.
    """
    place = {slot: s for s, slot in enumerate(slots)}
    table_AS = table.cpu().numpy()
    fixed = [slot.number for pair in pairs for slot in (pair.online, pair.target)]
    wide = 1 + max([*fixed, int(table_AS.max(initial=0))])
    groups: dict[tuple[str, str, str], int] = {}
    columns = []
    for pair in pairs:
        group = groups.setdefault((pair.online.pool, pair.target.pool, pair.kind), len(groups))
        online, target = (
            table_AS[:, place[slot]] if slot in place else np.full(len(table_AS), slot.number)
            for slot in (pair.online, pair.target)
        )
        columns.append((group * wide + online) * wide + target)
    codes_AP = np.stack(columns, axis=1)
    codes_Q, first_Q, inverse = np.unique(codes_AP, return_index=True, return_inverse=True)
    order_Q = first_Q.argsort()  # in the order of their first occurrence
    names, named = list(groups), []
    for code in codes_Q[order_Q].tolist():
        rest, target = divmod(code, wide)
        group, online = divmod(rest, wide)
        online_pool, target_pool, kind = names[group]
        named.append(Pair(Slot(online_pool, online), Slot(target_pool, target), 1.0, kind))
    return named, torch.from_numpy(order_Q.argsort()[inverse].reshape(codes_AP.shape))


def _unrank_combination(rank: int, n: int, k: int) -> list[int]:
    """Return the combination of that lexicographic rank; rank 0 is 0..k-1."""
    chosen: list[int] = []
    candidate = 0
    while len(chosen) < k:
        with_it = math.comb(n - candidate - 1, k - len(chosen) - 1)
        if rank < with_it:
            chosen.append(candidate)
        else:
            rank -= with_it
        candidate += 1
    return chosen


def _unrank_permutation(rank: int, n: int, k: int) -> list[int]:
    """Return the arrangement of k out of n of that lexicographic rank; rank 0 is 0..k-1."""
    free = list(range(n))
    chosen: list[int] = []
    for i in range(k):
        digit, rank = divmod(rank, math.perm(n - i - 1, k - i - 1))
        chosen.append(free.pop(digit))
    return chosen
