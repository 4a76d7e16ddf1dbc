"""Whether two evaluations differ by more than chance: paired tests, intervals, means over seeds.

Shape suffixes: M test samples, R runs of different seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

DRAWS = 10_000
"""Draws of a permutation test (SimCLR took 100,000, Chen et al. 2020, appendix B.8)."""
_Z = 1.959963984540054  # quantile of the 95 % interval

Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval, in per cent."""

    value: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether zero is one of its values."""
        return self.low <= 0 <= self.high


def accuracy(correct_M: Correct) -> Interval:
    """Return the accuracy of one run, with Wilson's interval: samples of the test set are drawn, not all there are."""
    return wilson(int(correct_M.sum()), len(correct_M))


def wilson(right: int, count: int) -> Interval:
    """Return the share of right answers among a number of them, with Wilson's interval."""
    share = right / count
    scale = 1 + _Z**2 / count
    centre = (share + _Z**2 / (2 * count)) / scale
    reach = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / scale
    return Interval(100 * share, 100 * (centre - reach), 100 * (centre + reach))


def paired_difference(first_M: Correct, second_M: Correct) -> Interval:
    """Return by how much the first run is better on the same test samples, with the interval of a paired mean."""
    difference_M = first_M.astype(float) - second_M
    mean = float(difference_M.mean())
    deviation = float(difference_M.std(ddof=1)) if len(difference_M) > 1 else 0.0
    reach = _Z * deviation / math.sqrt(len(difference_M))
    return Interval(100 * mean, 100 * (mean - reach), 100 * (mean + reach))


def paired_permutation(first_M: Correct, second_M: Correct, seed: int = 0, draws: int = DRAWS) -> float:
    """Return the p-value of the hypothesis that each sample's two results could as well be exchanged.

    Samples on which both agree do not matter; of the others, each exchange changes the sign.
    """
    disagree = int((first_M != second_M).sum())
    observed = abs(int(first_M.sum()) - int(second_M.sum()))
    ahead_D = np.random.default_rng(seed).binomial(disagree, 0.5, size=draws)
    as_far = int((np.abs(2 * ahead_D - disagree) >= observed).sum())
    return (1 + as_far) / (1 + draws)


@dataclass(frozen=True)
class Mean:
    """The mean over seeds; `deviation` (of a sample, ddof 1) is None for one seed."""

    value: float
    deviation: float | None
    runs: int


def over_seeds(values_R: Sequence[float]) -> Mean:
    """Return mean and deviation of runs that differ in their seed."""
    deviation = float(np.std(values_R, ddof=1)) if len(values_R) > 1 else None
    return Mean(float(np.mean(values_R)), deviation, len(values_R))


def difference_of_means(first_R: Sequence[float], second_R: Sequence[float]) -> Interval | None:
    """Return the difference of two means over seeds with Welch's interval; None if either has one seed only."""
    if min(len(first_R), len(second_R)) < 2:
        return None
    difference = float(np.mean(first_R) - np.mean(second_R))
    if np.var(first_R) == np.var(second_R) == 0:
        return Interval(difference, difference, difference)
    found = stats.ttest_ind(first_R, second_R, equal_var=False).confidence_interval(0.95)
    return Interval(difference, float(found.low), float(found.high))
