"""The ways to choose and harden views that an estimate compares."""

import math
from collections.abc import Iterator
from fractions import Fraction

from hardviews.methods.method import Method
from hardviews.models.resolution import cheap_size, patch_side
from hardviews.recipes.cheap import cheaper
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.more_views import MoreViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.composition import leaves
from hardviews.train.recipe import Recipe

_MOST_STEPS = 12


def ways(method: Method, recipe: Recipe, candidates: int) -> dict[str, Strategy]:
    """Return strategies by the name of their column: plain, exact, cheap, HEXA, and a recipe's own if it is another.

    `method`: the recipe's, without numbers.
    """
    largest = max(pool.augmentation.size for pool in method.plan().pools)
    cheap = cheap_size(method.backbone, largest)
    found: dict[str, Strategy] = {"plain": Clean(), "exact HVS": HardViews(candidates)}
    if cheap < largest:
        maps = patch_side(method.backbone) is None
        found["cheap HVS"] = cheaper(HardViews(candidates), recipe.method, cheap, maps)
    found["HEXA"] = Sum((1.0, Clean()), (1.0, Adversarial()), (1.0, CutMix()), average=True)
    if recipe.strategy not in found.values():
        found["recipe"] = recipe.strategy
    return found


def steps(strategy: Strategy) -> range:
    """Return numbers of steps with the same mean as the whole run: one period, at most 12."""
    return range(min(_MOST_STEPS, math.lcm(*_periods(strategy))))


def _periods(strategy: Strategy) -> Iterator[int]:
    for leaf in leaves(strategy):
        yield getattr(leaf, "every", 1)
        if isinstance(leaf, MoreViews):
            yield Fraction(leaf.sets).limit_denominator(1000).denominator
