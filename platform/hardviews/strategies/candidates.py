"""The common part of strategies over candidates: the number of views, the compared assignments, and the steps.

Shape legend: A assignments, S slots, B samples.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hardviews.batch import Batch, Selection, Term
from hardviews.checked import at_least, require
from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.methods.method import Method
from hardviews.strategies.audit import marked
from hardviews.strategies.passes import Passes, trained
from hardviews.strategies.scorer import Scorer
from hardviews.strategies.strategy import Stage, Strategy
from hardviews.views.plan import Plan, Slot
from hardviews.views.random import Purpose, words

_MOST = 100_000  # most assignments that a step may list

# Reason of the refusal of a strategy that compares views.
ONE_VIEW = (
    "it compares the global views of an image, and the method has a single one. Choose HardViews, which looks at the "
    "losses themselves."
)


@dataclass(frozen=True)
class Candidates(Strategy):
    """Draws more views than the method has slots, and compares the assignments of views to slots.

    Attributes:
        candidates: number of views drawn for all global slots together (the paper's N).
        local_candidates: number of views drawn for each pool of local slots, by default as many as its slots.
        limit: most assignments in a step, drawn again in each step (DINO: 64 or 128).
        every: choose only in every n-th step; other steps train on the first views.
        audit: in every n-th of these steps compare the choice with exact scores, if it was made in another way; 0 for
            never.
    """

    stages = frozenset({Stage.SELECT})

    candidates: int = 4
    local_candidates: int | None = None
    limit: int | None = None
    every: int = 1
    audit: int = 100

    def __post_init__(self) -> None:
        """Refuse counts without candidates."""
        require(
            self,
            candidates=at_least(1),
            local_candidates=at_least(1).or_none("for as many as the method has local slots"),
            limit=at_least(1).or_none(),
            every=at_least(1),
            audit=at_least(0).note("0 for never"),
        )

    def plan(self, plan: Plan) -> Plan:
        """Ask for candidates, shared among the pools of global slots in proportion to their slots."""
        slots = sum(pool.slots for pool in plan.pools if pool.target)
        if self.candidates < slots:
            raise UserError(
                f"{type(self).__name__} asks for {self.candidates} candidates, but the method has {slots} global "
                f"slots to fill: choose {slots} or more."
            )
        share = math.lcm(*(slots // math.gcd(slots, pool.slots) for pool in plan.pools if pool.target))
        if self.candidates % share:
            raise UserError(
                f"{type(self).__name__} asks for {self.candidates} candidates, but the method draws its global views "
                f"in {share} kinds, of which each needs as many: choose a multiple of {share}."
            )
        asked = {pool.name: pool.slots * self.candidates // slots for pool in plan.pools if pool.target}
        if self.local_candidates is not None:
            asked.update({pool.name: self.local_candidates for pool in plan.pools if not pool.target})
        return plan.with_candidates(asked)

    def refuses(self, method: Method) -> str | None:
        """Refuse a method without the local views that are asked for, or with more assignments than can be listed."""
        if self.local_candidates is not None and all(pool.target for pool in method.plan().pools):
            return (
                f"it is asked for {self.local_candidates} candidates of local views, and the method draws none: leave "
                "local_candidates away. SwAV, DINO, iBOT and DeepCluster draw some, if their `locals` is above 0."
            )
        total = self.listed(self.plan(method.plan())).count(method.pairs())
        if total > _MOST and (self.limit is None or self.limit > _MOST):
            return (
                f"every step would look at {total:,} assignments of views to slots. Set limit (the published "
                "multi-crop runs have 64 or 128)."
            )
        return None

    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the terms of this step's assignments, or the first views if there is nothing to compare."""
        # Only its own candidates: another part of a sum may ask for more.
        plan = self.plan(objective.own_plan)
        if plan.count(objective.pairs) == 1 or batch.clock.step % self.every:
            return first_views(plan, batch)
        listed = self.listed(plan)
        total = listed.count(objective.pairs)
        drawn = None if self.limit is None or self.limit >= total else draw_ranks(total, self.limit, batch.clock)
        terms = self.among(plan, listed.assignments(objective.pairs, drawn), batch, objective)
        due = self.audit and (batch.clock.step // self.every + 1) % self.audit == 0
        return [marked(term) for term in terms] if due and self.guesses(plan) and self.guessing(batch.clock) else terms

    def passes(self, method: Method) -> Passes:
        """Count the passes of steps that compare assignments, and of steps on the first views."""
        plan = self.plan(method.plan())
        looked = 0 if plan.count(method.pairs()) == 1 else 1 / self.every
        return self.looked(method, plan) * looked + trained(method, method.plan()) * (1 - looked)

    def guesses(self, plan: Plan) -> bool:
        """Return whether it estimates the hardest views by anything but the whole loss of views at their full size."""
        return False

    def guessing(self, clock: Clock) -> bool:
        """Return whether it chooses in this step already; an audit of first views would be useless."""
        return True

    @property
    def remedy(self) -> str:
        """Return a remedy for poor guesses, as a sentence."""
        return f"Raise candidates (now {self.candidates}), or choose by the loss of small views: HardViews with a size."

    @abstractmethod
    def looked(self, method: Method, plan: Plan) -> Passes:
        """Return the passes of a step that compares the assignments of the plan's candidates."""

    def listed(self, plan: Plan) -> Plan:
        """Return the plan whose assignments are listed, one by one."""
        return plan

    @abstractmethod
    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the terms of a step that compares these assignments (A, S)."""


class Choice(NamedTuple):
    """The row of the table that each sample takes (B,).

    `hardness` (A, B) or `scores` (A, B) decided. `shared` is whether all samples chose from the same assignments,
    `random` whether the choice was random.
    """

    rows: Tensor
    hardness: Tensor | None = None
    shared: bool = True
    random: bool = False
    scores: Tensor | None = None


def first_views(plan: Plan, batch: Batch) -> list[Term]:
    """Return the batch of the first views as the only term."""
    return [Term(replace(batch, views={slot: batch.views[slot] for slot in plan.slots}))]


def selected(plan: Plan, table: Tensor, choice: Choice, batch: Batch, scorer: Scorer) -> Batch:
    """Return the batch of the chosen views, with the record of the selection."""
    named = [numbers_A.unique(return_inverse=True) for numbers_A in table.T]
    # One copy to the device, which does not wait for the scores that it is still computing.
    pick_AS = torch.stack([place_A for _, place_A in named], dim=1)
    pick_BS = pick_AS.to(choice.rows.device, non_blocking=True)[choice.rows]
    views = {}
    for s, slot in enumerate(plan.slots):
        candidates = [batch.views[Slot(slot.pool, number)] for number in named[s][0].tolist()]
        view = batch.views[slot]
        # Without a choice it is the view itself: another part of a sum may have encoded it.
        if candidates != [view]:
            view = view.pick(candidates, pick_BS[:, s])
            scorer.picked(view, candidates, pick_BS[:, s])
        views[slot] = view
    drawn = {slot: batch.views[slot] for slot in plan.candidates}
    record = Selection(
        plan.slots, table, choice.hardness, choice.rows, drawn, choice.shared, choice.random, choice.scores
    )
    return replace(batch, views=views, selection=record)


def draw_ranks(total: int, limit: int, clock: Clock) -> list[int]:
    """Draw `limit` of the numbers below `total`, in order; all sets of them are equally likely.

    The draw is the same on every rank and for every micro-batch of a step. Floyd's method (Bentley & Floyd,
    Communications of the ACM 1987) needs no list, so `total` may have any number of digits.
    """
    drawn = words(clock.seed, Purpose.ASSIGNMENT, clock.epoch, np.array([clock.step]), 0, 4 * limit)
    chosen: set[int] = set()
    for last, parts in zip(range(total - limit, total), drawn.reshape(limit, 4).tolist(), strict=True):
        number = sum(part << 32 * i for i, part in enumerate(parts)) % (last + 1)
        chosen.add(last if number in chosen else number)
    return sorted(chosen)
