"""Parts of a recipe that take no part in a run: reported, not refused, as a short trial of a recipe makes sense."""

from collections.abc import Iterator

from hardviews.clock import Calendar
from hardviews.objective.objective import Objective
from hardviews.strategies.compose import Sum
from hardviews.strategies.strategy import Strategy
from hardviews.train.recipe import Training

_TIMES = 5.0  # lengths of an average in a run: the share of the first weights is then exp(-5), under 1 %

_LEAST = 0.5  # a lower decay averages over two steps or fewer


def idle(objective: Objective, training: Training, calendar: Calendar) -> list[str]:
    """Return a sentence for each part of a strategy that begins after the run, and each module that no step trains."""
    remarks = [
        f"{name} begins in epoch {begin} (counted from 0), and the run has {training.epochs}: it takes no part."
        for name, begin in (*objective.method.beginnings(), *_beginnings(objective.strategy))
        if begin >= training.epochs
    ]
    steps = calendar.step(calendar.total)
    if training.ema and (1 - training.ema) * steps < _TIMES:
        # An average over fewer steps has little use.
        highest = 1 - _TIMES / steps
        remedy = f"Take {highest:.2g} or less." if highest >= _LEAST else "Leave --training.ema out."
        remarks.append(
            f"training.ema {training.ema:g} averages over about {1 / (1 - training.ema):,.0f} steps, and the run has "
            f"{steps:,}: the exported weights stay near the first ones. {remedy}"
        )
    frozen = objective.method.frozen(calendar.at(calendar.total - training.batch))  # in the last step
    for name, module in objective.method.named_modules():
        if any(module is one for one in frozen):
            remarks.append(f"{name} is frozen at first (--method.freeze), to the end of this run: it stays random.")
    return remarks


def _beginnings(strategy: Strategy) -> Iterator[tuple[str, int]]:
    """Yield the parts of all sums in a strategy, with the epochs in which they begin."""
    if isinstance(strategy, Sum):
        yield from ((type(part.strategy).__name__, part.begin) for part in strategy.parts if part.weight > 0)
    for part in strategy.parts_in_use:
        yield from _beginnings(part)
