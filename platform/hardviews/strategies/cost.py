"""What a selection and its controls cost, counted in forward passes, and how to train as long without a selection.

The unit is a forward pass of a view of the method's largest size; a smaller view counts by its area. A backward pass is
two forward passes, so a view that is trained on costs three. tests/strategies/test_cost.py counts the passes that are
really made.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hardviews.models.momentum import MomentumEncoder
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.candidates import Candidates
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.least_overlap import LeastOverlap
from hardviews.strategies.more_views import MoreViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.plan import Plan, Slot

if TYPE_CHECKING:
    from hardviews.methods.method import Method


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


def cost(method: "Method", strategy: Strategy) -> Passes:
    """Return what a step costs under a selection or one of its controls, on average over steps."""
    if isinstance(strategy, MoreViews):
        return _trained(method, method.plan()) * strategy.sets
    if isinstance(strategy, Candidates):
        plan = strategy.plan(method.plan())
        looked = 0 if plan.count(method.pairs()) == 1 else 1 / strategy.every
        return _step(method, strategy, plan) * looked + _trained(method, method.plan()) * (1 - looked)
    if isinstance(strategy, Clean):
        return _trained(method, method.plan())
    raise TypeError(f"The passes of {type(strategy).__name__} are not counted: it is no selection.")


def matching(method: "Method", strategy: Strategy) -> MoreViews:
    """Return the control that takes as many passes as a strategy, all of them to train on random views."""
    # Never below 1, which rounding may make of a strategy that takes no pass of its own.
    return MoreViews(max(1.0, cost(method, strategy).units / cost(method, Clean()).units))


def _step(method: "Method", strategy: Candidates, plan: Plan) -> Passes:
    """Return what a step costs in which the strategy looks at the assignments of the plan's candidates."""
    if isinstance(strategy, AllPairs):
        return _trained(method, plan)
    passes = _trained(method, method.plan())
    online, target = _sides(method, plan)
    first = Passes(_area(plan, _sides(method, method.plan())[0])) if method.unselected_state else Passes()
    if isinstance(strategy, LeastOverlap):
        return passes + first
    if isinstance(strategy, HardViews):
        separate = target if _has_target_network(method) else target - online
        passes += Passes(_area(plan, online, strategy.size) + _area(plan, separate, strategy.size))
        if method.rowwise_targets and separate:
            kept = [slot for slot in _sides(method, method.plan())[1] if not strategy.shrinks(plan, slot.pool)]
            passes += Passes(-_area(plan, kept))
        if any(strategy.shrinks(plan, slot.pool) for slot in online):
            passes += first
    return passes


def _trained(method: "Method", plan: Plan) -> Passes:
    """Return what it costs to train on all candidates of a plan, each encoded once."""
    online, target = _sides(method, plan)
    if _has_target_network(method):
        return Passes(_area(plan, target), _area(plan, online))
    return Passes(0.0, _area(plan, online | target))


def _sides(method: "Method", plan: Plan) -> tuple[set[Slot], set[Slot]]:
    """Return the candidates that the online side may look at, and those of the target side.

    A pool that draws no more candidates than it has slots keeps every view in its slot; else any view may fill any.
    """
    sides = []
    for slots in ({p.online for p in method.pairs()}, {p.target for p in method.pairs()}):
        pools = {slot.pool for slot in slots}
        chosen = {pool.name for pool in plan.pools if pool.candidates > pool.slots}
        sides.append({c for c in plan.candidates if c in slots or (c.pool in chosen and c.pool in pools)})
    return sides[0], sides[1]


def _area(plan: Plan, slots: Iterable[Slot], size: int | None = None) -> float:
    full = max(pool.augmentation.size for pool in plan.pools)
    own = [plan.pool(slot.pool).augmentation.size for slot in slots]
    return sum((min(side, size or side) / full) ** 2 for side in own)


def _has_target_network(method: "Method") -> bool:
    return any(isinstance(module, MomentumEncoder) for module in method.modules())
