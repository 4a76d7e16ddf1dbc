"""The contract of a strategy, and how strategies compose.

A strategy turns a batch into terms of the objective. `Chain(a, b)` applies b to every term of a; `Sum` adds
terms with weights. The order of a chain is fixed by meaning: select, then mix, then attack. Selecting after
an attack would always pick the attacked views; mixing attacked views would spoil perturbations that were made
for the unmixed image.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import combinations
from typing import TYPE_CHECKING

from hardviews.batch import Batch, Term
from hardviews.errors import UserError
from hardviews.views.plan import Plan

if TYPE_CHECKING:
    from hardviews.methods.method import Method
    from hardviews.objective import Objective


class Stage(IntEnum):
    """What a strategy does to views, in the only order that makes sense."""

    SELECT = 0
    MIX = 1
    ATTACK = 2


class Strategy(ABC):
    """Turns a batch into terms; strategies are frozen dataclasses and hold no state."""

    @property
    def stages(self) -> frozenset[Stage]:
        """Return what the strategy does to views."""
        return frozenset()

    @property
    def adversarial_branch(self) -> bool:
        """Return whether the strategy needs the auxiliary BatchNorm."""
        return False

    @property
    def several(self) -> bool:
        """Return whether a term trains on several views of a slot at once."""
        return False

    def plan(self, plan: Plan) -> Plan:
        """Return the plan with the candidates that the strategy asks for."""
        return plan

    def refuses(self, method: "Method") -> str | None:
        """Return why the strategy cannot serve a method, and what to do; None where it can. Asked once, at first."""
        return None

    @abstractmethod
    def __call__(self, batch: Batch, objective: "Objective") -> list[Term]:
        """Return the terms to train on."""


@dataclass(frozen=True)
class Clean(Strategy):
    """The method as published: its first views, as they are."""

    def __call__(self, batch: Batch, objective: "Objective") -> list[Term]:
        """Return the batch as the only term."""
        return [Term(batch)]


@dataclass(frozen=True)
class Weighted:
    """A strategy and the weight of its terms in a sum."""

    weight: float
    strategy: Strategy


@dataclass(frozen=True)
class Sum(Strategy):
    """Adds the terms of several strategies.

    `average` divides by the sum of the weights, so that a step under plain SGD keeps its length. A part of
    weight zero is not computed.
    """

    parts: tuple[Weighted, ...]
    average: bool = False

    def __init__(self, *terms: tuple[float, Strategy], parts: tuple[Weighted, ...] = (), average: bool = False) -> None:
        """Take (weight, strategy) tuples (or parts by keyword); refuse sums without anything to train on."""
        object.__setattr__(self, "parts", tuple(Weighted(weight, part) for weight, part in terms) or parts)
        object.__setattr__(self, "average", average)
        if any(part.weight < 0 for part in self.parts) or not any(part.weight > 0 for part in self.parts):
            weights = [part.weight for part in self.parts]
            raise UserError(f"Sum has the weights {weights}; no weight may be negative and one must be positive.")

    @property
    def stages(self) -> frozenset[Stage]:
        """Return what any part does."""
        return frozenset[Stage]().union(*(part.strategy.stages for part in self.parts))

    @property
    def adversarial_branch(self) -> bool:
        """Return whether any part needs the auxiliary BatchNorm."""
        return any(part.strategy.adversarial_branch for part in self.parts if part.weight > 0)

    @property
    def several(self) -> bool:
        """Return whether a part trains on several views of a slot at once."""
        return any(part.strategy.several for part in self.parts if part.weight > 0)

    def refuses(self, method: "Method") -> str | None:
        """Return the first part's reason."""
        reasons = (part.strategy.refuses(method) for part in self.parts if part.weight > 0)
        return next((reason for reason in reasons if reason is not None), None)

    def plan(self, plan: Plan) -> Plan:
        """Ask for the candidates of every part; the part that asks for most decides."""
        return _widest(plan, [part.strategy.plan(plan) for part in self.parts if part.weight > 0])

    def __call__(self, batch: Batch, objective: "Objective") -> list[Term]:
        """Return the terms of all parts, their weights multiplied by the part's."""
        scale = 1 / sum(part.weight for part in self.parts) if self.average else 1.0
        return [
            replace(term, weight=term.weight * (part.weight * scale))
            for part in self.parts
            if part.weight > 0
            for term in part.strategy(batch, objective)
        ]


@dataclass(frozen=True)
class Chain(Strategy):
    """Applies strategies one after the other: each to every term of the one before."""

    links: tuple[Strategy, ...]

    def __init__(self, *chain: Strategy, links: tuple[Strategy, ...] = ()) -> None:
        """Take the links in order (or by keyword, as the command line does); refuse orders that have no
        meaning.
        """
        links = chain or links
        object.__setattr__(self, "links", links)
        for before, after in combinations(links, 2):
            if before.several and after.stages:
                raise UserError(
                    f"This chain would harden views after {type(before).__name__}, whose terms train on several views "
                    "of a slot at once: no one view is left to mix or attack. Add the two with Sum."
                )
            for first in before.stages:
                for second in after.stages:
                    if second <= first:
                        raise UserError(_refusal(first, second))

    @property
    def stages(self) -> frozenset[Stage]:
        """Return what any link does."""
        return frozenset[Stage]().union(*(link.stages for link in self.links))

    @property
    def adversarial_branch(self) -> bool:
        """Return whether any link needs the auxiliary BatchNorm."""
        return any(link.adversarial_branch for link in self.links)

    @property
    def several(self) -> bool:
        """Return whether a link trains on several views of a slot at once."""
        return any(link.several for link in self.links)

    def refuses(self, method: "Method") -> str | None:
        """Return the first link's reason."""
        reasons = (link.refuses(method) for link in self.links)
        return next((reason for reason in reasons if reason is not None), None)

    def plan(self, plan: Plan) -> Plan:
        """Ask for the candidates of every link."""
        for link in self.links:
            plan = link.plan(plan)
        return plan

    def __call__(self, batch: Batch, objective: "Objective") -> list[Term]:
        """Return the terms of the last link, weights multiplied along the way."""
        terms = [Term(batch)]
        for link in self.links:
            terms = [
                replace(
                    inner,
                    weight=outer.weight * inner.weight,
                    name=_join(outer.name, inner.name),
                    assignments=outer.assignments if inner.assignments is None else inner.assignments,
                )
                for outer in terms
                for inner in link(outer.batch, objective)
            ]
        return terms


def _join(outer: str, inner: str) -> str:
    names = [name for name in (outer, inner) if name != "clean"]
    return "_".join(names) or "clean"


def _widest(plan: Plan, asked: list[Plan]) -> Plan:
    return plan.with_candidates(
        {pool.name: max(other.pool(pool.name).candidates for other in asked) for pool in plan.pools}
    )


def _refusal(first: Stage, second: Stage) -> str:
    reasons = {
        (Stage.ATTACK, Stage.SELECT): "attacked views always win the selection, so it would select nothing",
        (
            Stage.MIX,
            Stage.SELECT,
        ): "the loss of a mixed view has a floor that depends on how it was mixed, so mixed views "
        "cannot be compared by loss",
        (
            Stage.ATTACK,
            Stage.MIX,
        ): "a perturbation made for the unmixed image loses its meaning when the image is mixed",
        (Stage.SELECT, Stage.SELECT): "the first selection leaves no candidates for a second one",
        (Stage.MIX, Stage.MIX): "a mixed view has two labels already; mixing it again would need more",
        (Stage.ATTACK, Stage.ATTACK): "the second attack would leave the pixel bound of the first",
    }
    return (
        f"This chain would {first.name.lower()} and then {second.name.lower()}: {reasons[first, second]}. "
        "Order the links as select, then mix, then attack."
    )
