"""A control of HVS: the compute for scoring is spent on more random views.

A step trains on several disjoint sets of views, and averages the method's loss over the sets. The state of the method
reads the first set.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch

from hardviews.batch import Batch, Term
from hardviews.checked import at_least, require
from hardviews.methods.method import Method
from hardviews.strategies.candidates import first_views
from hardviews.strategies.passes import Passes, trained
from hardviews.strategies.scorer import Scorer
from hardviews.strategies.strategy import Clean, Stage, Strategy
from hardviews.views.plan import Plan


@dataclass(frozen=True)
class MoreViews(Strategy):
    """Averages the method's loss over several sets of random views.

    Attributes:
        sets: number of sets, on average over steps; with 5/3, two steps in three take two sets and one takes one. A
            method of two views and one network needs 2 * 3 passes a step, where a backward pass counts as two.
            HardViews(4) needs four more, so the factor is 10/6. `matching` computes it for any method and selection.
    """

    stages = frozenset({Stage.SELECT})
    several = True

    sets: float = 5 / 3

    def __post_init__(self) -> None:
        """Refuse steps without a set."""
        require(self, sets=at_least(1))

    def passes(self, method: Method) -> Passes:
        """Count the training on every set."""
        return trained(method, method.plan()) * self.sets

    def plan(self, plan: Plan) -> Plan:
        """Ask for the views of all sets."""
        most = math.ceil(self._exactly)
        return plan.with_candidates({pool.name: pool.slots * most for pool in plan.pools})

    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch with all sets of this step as the only term."""
        plan = objective.own_plan
        number = self.at(batch.clock.step)
        if number == 1:
            return first_views(plan, batch)
        widths = [plan.pool(slot.pool).slots for slot in plan.slots]
        table = [
            [m * slots + slot.number for slot, slots in zip(plan.slots, widths, strict=True)] for m in range(number)
        ]
        return [Term(batch, assignments=torch.tensor(table))]

    def at(self, step: int) -> int:
        """Return the number of sets of a step: spread evenly, `sets` on average."""
        return math.floor((step + 1) * self._exactly) - math.floor(step * self._exactly)

    @property
    def _exactly(self) -> Fraction:
        return Fraction(self.sets).limit_denominator(1000)


def matching(method: Method, strategy: Strategy) -> MoreViews:
    """Return the control that takes as many passes as a selection, all of them to train on random views."""
    # At least 1: rounding may give less for a strategy without passes of its own.
    return MoreViews(max(1.0, strategy.passes(method).units / Clean().passes(method).units))
