"""Strategies in turn: each step computes one of them, so that several cost no more than one."""

from dataclasses import dataclass, replace

from hardviews.batch import Batch, Term
from hardviews.errors import UserError
from hardviews.strategies.compose import widest
from hardviews.strategies.scorer import Scorer
from hardviews.strategies.strategy import Stage, Strategy
from hardviews.views.plan import Plan


@dataclass(frozen=True)
class InTurn(Strategy):
    """Computes one of several strategies in each step: the first in step 0, the next in step 1, and so on.

    The number of the step decides, so a resumed run goes on with the right part. On average over a round of n steps
    each part has the n-th part of the weight: `Sum((1, Clean()), (2, InTurn(A, B)))` is `Sum((1, Clean()), (1, A), (1,
    B))`.

    A part counts its own turns: with `every=2` it attacks in every second turn.
    """

    parts: tuple[Strategy, ...]

    def __init__(self, *turns: Strategy, parts: tuple[Strategy, ...] = ()) -> None:
        """Take the parts in order, or by keyword as the command line does."""
        parts = turns or parts
        if not parts:
            raise UserError("InTurn has no parts, so no step has anything to train on: name two or more.")
        object.__setattr__(self, "parts", parts)

    @property
    def stages(self) -> frozenset[Stage]:
        """Return the stages of all parts."""
        return frozenset[Stage]().union(*(part.stages for part in self.parts))

    @property
    def adversarial_branch(self) -> bool:
        """Return whether any part needs the auxiliary BatchNorm."""
        return any(part.adversarial_branch for part in self.parts)

    @property
    def several(self) -> bool:
        """Return whether a part trains on several views of a slot at once."""
        return any(part.several for part in self.parts)

    @property
    def parts_in_use(self) -> tuple[Strategy, ...]:
        """Return the parts."""
        return self.parts

    def plan(self, plan: Plan) -> Plan:
        """Ask for the candidates of every part; the largest number is taken."""
        return widest(plan, [part.plan(plan) for part in self.parts])

    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the terms of the part whose turn it is."""
        turn, number = divmod(batch.clock.step, len(self.parts))
        own = replace(batch, clock=replace(batch.clock, step=turn))
        terms = self.parts[number](own, objective)
        return [replace(term, batch=replace(term.batch, clock=batch.clock)) for term in terms]
