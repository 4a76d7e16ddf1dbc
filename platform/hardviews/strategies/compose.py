"""Composition of strategies: `Chain` applies one to every term of another, `Sum` adds terms with weights.

The order of a chain is fixed by its meaning: select, then mix, then attack. A selection after an attack would always
take the attacked views. A mixture of attacked views would spoil perturbations that were made for the unmixed image.
"""

from dataclasses import dataclass, replace
from itertools import combinations

from hardviews.batch import Batch, Term
from hardviews.errors import UserError
from hardviews.methods.growing import Growing
from hardviews.strategies.scorer import Scorer
from hardviews.strategies.strategy import Stage, Strategy
from hardviews.views.plan import Plan


@dataclass(frozen=True)
class Weighted(Growing):
    """A strategy and the weight of its terms in a sum, which may begin late and grow.

    Attributes:
        weight: weight of the terms, once it has grown.
        strategy: strategy that makes the terms.
        ramp: share of the run, from its start on, over which the weight grows linearly from 0.
        begin: first epoch, counted from 0, in which the terms count; before, they are not computed. Take 1 for
            DeepCluster-v2, whose labels of epoch 0 come from a random network.
    """

    weight: float
    strategy: Strategy
    ramp: float = 0.0
    begin: int = 0

    def __post_init__(self) -> None:
        """Refuse invalid weights."""
        self.check("Sum.parts")


@dataclass(frozen=True)
class Sum(Strategy):
    """Adds the terms of several strategies.

    `average` divides by the sum of the weights in a step, so that a step of plain SGD keeps its length. A part of
    weight zero is not computed.
    """

    parts: tuple[Weighted, ...]
    average: bool = False

    def __init__(
        self,
        *terms: tuple[float, Strategy] | Weighted,
        parts: tuple[Weighted, ...] = (),
        average: bool = False,
    ) -> None:
        """Take (weight, strategy) tuples or `Weighted`, also by keyword; refuse sums without anything to train on."""
        made = tuple(term if isinstance(term, Weighted) else Weighted(*term) for term in terms)
        object.__setattr__(self, "parts", made or parts)
        object.__setattr__(self, "average", average)
        if not any(part.weight > 0 for part in self.parts):
            weights = [part.weight for part in self.parts]
            raise UserError(f"Sum has the weights {weights}; no weight may be negative and one must be positive.")
        if all(part.scheduled for part in self.parts if part.weight > 0):
            raise UserError(
                "Every part of this Sum begins late or grows from 0, so its first step has nothing to train on: leave "
                "ramp and begin of one part at 0, as a rule of the clean one."
            )

    @property
    def stages(self) -> frozenset[Stage]:
        """Return the stages of all parts."""
        return frozenset[Stage]().union(*(part.strategy.stages for part in self.parts))

    @property
    def adversarial_branch(self) -> bool:
        """Return whether any part needs the auxiliary BatchNorm."""
        return any(part.adversarial_branch for part in self.parts_in_use)

    @property
    def parts_in_use(self) -> tuple[Strategy, ...]:
        """Return the parts whose weight is not always zero."""
        return tuple(part.strategy for part in self.parts if part.weight > 0)

    @property
    def several(self) -> bool:
        """Return whether a part trains on several views of a slot at once."""
        return any(part.several for part in self.parts_in_use)

    def plan(self, plan: Plan) -> Plan:
        """Ask for the candidates of every part; the largest number is taken."""
        return widest(plan, [part.plan(plan) for part in self.parts_in_use])

    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the terms of all parts, with weights times the part's weight at this place of the run."""
        weights = [part.at(batch.clock) for part in self.parts]
        made = [
            (weight, part.strategy(batch, objective))
            for weight, part in zip(weights, self.parts, strict=True)
            if weight > 0
        ]
        # An attack that this step leaves out has terms of weight zero, and does not count.
        counted = sum(weight for weight, terms in made if any(term.weight for term in terms))
        scale = 1 / counted if self.average and counted else 1.0
        return [replace(term, weight=term.weight * (weight * scale)) for weight, terms in made for term in terms]


@dataclass(frozen=True)
class Chain(Strategy):
    """Applies strategies one after the other: each to every term of the one before."""

    links: tuple[Strategy, ...]

    def __init__(self, *chain: Strategy, links: tuple[Strategy, ...] = ()) -> None:
        """Take the links in order, or by keyword as the command line does; refuse meaningless orders."""
        links = chain or links
        object.__setattr__(self, "links", links)
        for before, after in combinations(links, 2):
            if before.several and after.stages - {Stage.SELECT}:
                raise UserError(
                    f"This chain would harden views after {type(before).__name__}, whose terms train on several views "
                    "of a slot at once: no one view is left to mix or attack. Add the two with Sum."
                )
            both = before.hardened_kinds | after.hardened_kinds
            if before.hardened_kinds and after.hardened_kinds and len(both) > 1:
                raise UserError(
                    "This chain would mix views of some kinds of pairs and attack those of others, and a term has one "
                    "loss. Name the same kinds in both, or add the two with Sum."
                )
            if Stage.MIX in before.stages and after.reads_clean_gradient:
                raise UserError(
                    "This chain would attack mixed views along the gradient of the clean loss, which is of unmixed "
                    "views. Set gradient of the attack to own, or add mix and attack with Sum."
                )
            for first in before.stages:
                for second in after.stages:
                    if second <= first:
                        raise UserError(_refusal(first, second))

    @property
    def stages(self) -> frozenset[Stage]:
        """Return the stages of all links."""
        return frozenset[Stage]().union(*(link.stages for link in self.links))

    @property
    def adversarial_branch(self) -> bool:
        """Return whether any link needs the auxiliary BatchNorm."""
        return any(link.adversarial_branch for link in self.links)

    @property
    def several(self) -> bool:
        """Return whether a link trains on several views of a slot at once."""
        return any(link.several for link in self.links)

    @property
    def parts_in_use(self) -> tuple[Strategy, ...]:
        """Return the links."""
        return self.links

    def plan(self, plan: Plan) -> Plan:
        """Ask for the candidates of every link."""
        for link in self.links:
            plan = link.plan(plan)
        return plan

    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the terms of the last link, weights multiplied along the way."""
        terms = [Term(batch)]
        for link in self.links:
            terms = [
                replace(
                    inner,
                    weight=outer.weight * inner.weight,
                    name=_join(outer.name, inner.name),
                    assignments=outer.assignments if inner.assignments is None else inner.assignments,
                    raised=outer.raised if inner.raised is None else inner.raised,
                    strength=outer.strength if inner.strength is None else inner.strength,
                    hard_only=outer.hard_only or inner.hard_only,
                    kinds=outer.kinds if inner.kinds is None else inner.kinds,
                )
                for outer in terms
                for inner in link(outer.batch, objective)
            ]
        return terms


def _join(outer: str, inner: str) -> str:
    names = [name for name in (outer, inner) if name != "clean"]
    return "_".join(names) or "clean"


def widest(plan: Plan, asked: list[Plan]) -> Plan:
    """Return a plan with the most candidates of each pool, and the largest geometric views, that the plans ask for."""
    pools = {pool.name: [other.pool(pool.name) for other in asked] for pool in plan.pools}
    sizes = {name: [pool.geometry for pool in alike if pool.geometry] for name, alike in pools.items()}
    return plan.with_candidates(
        {name: max(pool.candidates for pool in alike) for name, alike in pools.items()}
    ).with_geometry({name: max(found) for name, found in sizes.items() if found})


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
    if first == second:
        twice, advice = f"{first.name.lower()} twice", "Keep one of the two, or make them parts of a Sum."
    else:
        twice = f"{first.name.lower()} and then {second.name.lower()}"
        advice = "Order the links as select, then mix, then attack."
    return f"This chain would {twice}: {reasons[first, second]}. {advice}"
