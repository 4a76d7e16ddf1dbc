"""Costs of training and scoring, counted in forward passes.

The unit is a forward pass of a view of the method's largest size. A smaller view counts by the operations of the
backbone (`hardviews.models.flops`). A backward pass is two forward passes, so a view that is trained on costs three.
tests/strategies/test_cost.py counts the real passes.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from hardviews.methods.method import Method
from hardviews.models.flops import work
from hardviews.models.momentum import MomentumEncoder
from hardviews.views.plan import Pair, Plan, Slot


@dataclass(frozen=True)
class Passes:
    """Forward passes of a step for each image: without gradient (scoring, a momentum encoder's targets), and with."""

    without_gradient: float = 0.0
    trained: float = 0.0

    @property
    def units(self) -> float:
        """Return the cost in forward passes."""
        return self.without_gradient + 3 * self.trained

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.without_gradient + other.without_gradient, self.trained + other.trained)

    def __mul__(self, times: float) -> "Passes":
        return Passes(self.without_gradient * times, self.trained * times)


def trained(method: Method, plan: Plan) -> Passes:
    """Return the passes of training on all candidates of a plan, each encoded once."""
    without, apart = 0.0, 0.0
    views: set[Slot] = set()  # their features are made once for all summands
    for summand, pairs in method.summands:
        online, target = sides(pairs, plan)
        if has_target_network(summand):
            without += load(method, plan, target)
        else:
            online = online | target
        if summand.shares_features:
            views |= online
        else:
            apart += load(method, plan, online)
    return Passes(without, apart + load(method, plan, views))


def unselected(method: Method, plan: Plan, pools: Collection[str]) -> Passes:
    """Return the passes of encoding first views for a method whose state does not read selected views.

    Only views of some pools count, and only those that a selection may leave out: all others are trained on anyway.
    """
    if not method.unselected_state:
        return Passes()
    return Passes(
        load(
            method,
            plan,
            [s for s in sides(method.pairs(), method.plan())[0] if s.pool in pools and chooses(plan, s.pool)],
        )
    )


def sides(pairs: Sequence[Pair], plan: Plan) -> tuple[set[Slot], set[Slot]]:
    """Return the possible candidates of some pairs, on the online side and on the target side.

    If a pool has as many candidates as slots, every view stays in its slot; else any view may fill any slot.
    """
    found = []
    for slots in ({pair.online for pair in pairs}, {pair.target for pair in pairs}):
        pools = {slot.pool for slot in slots}
        found.append({c for c in plan.candidates if c in slots or (chooses(plan, c.pool) and c.pool in pools)})
    return found[0], found[1]


def chooses(plan: Plan, pool: str) -> bool:
    """Return whether a pool draws more candidates than it has slots."""
    return plan.pool(pool).candidates > plan.pool(pool).slots


def load(method: Method, plan: Plan, slots: Iterable[Slot], size: int | None = None) -> float:
    """Return the passes of encoding some candidates once, each at `size` pixels if its own size is larger."""
    full = max(pool.augmentation.size for pool in plan.pools)
    own = [plan.pool(slot.pool).augmentation.size for slot in slots]
    return sum(work(method.backbone, min(side, size or side), full) for side in own)


def has_target_network(method: Method) -> bool:
    """Return whether a second network makes the targets."""
    return any(isinstance(module, MomentumEncoder) for module in method.modules())
