"""The common part of CutMix and MixUp: the partners, the weights and the slots of a mixture.

Partners permute inside fixed groups of positions, and weights are drawn by the counter-based RNG. So a mix does not
depend on the number of ranks. Only online views are mixed; the target side stays clean
(HEXA: keys unmixed).

Shape legend: B samples.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hardviews.batch import Batch, Mix, Term, View
from hardviews.checked import above, added, require, within
from hardviews.errors import UserError
from hardviews.methods.method import Method
from hardviews.strategies.kinds import unknown_kinds
from hardviews.strategies.scorer import Scorer
from hardviews.strategies.strategy import Stage, Strategy
from hardviews.views.pixels import Crops
from hardviews.views.plan import of_kinds
from hardviews.views.random import Purpose, beta, permutation_in_groups


@dataclass(frozen=True)
class Mixing(Strategy):
    """Mixes each online view of a global slot with the same slot's view of another image.

    Attributes:
        alpha: parameter of the distribution Beta(alpha, alpha) of the weights.
        scope: one weight a sample, or one for each fixed group of samples (published: one for the batch).
        fixed: constant weight in place of a draw.
        pairs: `all` is the method's whole loss, in which local views stay clean; `hard` is the loss of the mixed views
            alone, with the weight of the whole.
        kinds: parts of a sum of methods ("0"), or kinds of pairs ("0/class"), whose views are mixed and whose loss is
            added; all by default.
    """

    stages = frozenset({Stage.MIX})

    alpha: float = 1.0
    scope: Literal["sample", "group"] = "group"
    fixed: float | None = None
    pairs: Literal["all", "hard"] = "all"
    kinds: tuple[str, ...] | None = added(None)

    def __post_init__(self) -> None:
        """Refuse distributions that do not exist."""
        require(self, alpha=above(0), fixed=within(0, 1).or_none())

    @property
    def hardened_kinds(self) -> frozenset[tuple[str, ...] | None]:
        """Return the kinds whose views are mixed."""
        return frozenset({self.kinds})

    def refuses(self, method: Method) -> str | None:
        """Refuse a method without pairs of these kinds."""
        return unknown_kinds(self.kinds, method)

    def refuses_group(self, size: int) -> str | None:
        """Refuse groups of one image, which would be mixed with itself."""
        if size > 1:
            return None
        return (
            f"{type(self).__name__} mixes images of one group, but training.group is 1, so each would be mixed "
            "with itself: set training.group to 2 or more (32 by default)."
        )

    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch with mixed online views as the only term."""
        pairs = of_kinds(objective.pairs, self.kinds)
        if not pairs:
            return [Term(batch, weight=0.0)]  # the parts of these kinds have not begun
        if self.fixed == 1 and self.pairs == "all":
            # Nothing is mixed: the clean views, bit for bit.
            return [Term(batch, name=type(self).__name__.lower(), kinds=self.kinds)]
        if batch.group == 1:
            raise UserError(self.refuses_group(1))
        hard, mixes = {}, {}
        for slot in dict.fromkeys(pair.online for pair in pairs):
            view = batch.views[slot]
            if not view.target:
                continue
            pixels, mix = self._mix(view.pixels(), batch, objective.plan.view_number(slot), objective.mix_grid)
            # Also if every weight here happens to be 1: otherwise the other ranks would wait for this one in the pass.
            hard[slot] = View(slot, Crops(pixels, view.normalisation), view.normalisation, mask=view.mask)
            mixes[slot] = mix
        mixed = replace(batch, hard=hard, mixes=mixes)
        return [Term(mixed, name=type(self).__name__.lower(), hard_only=self.pairs == "hard", kinds=self.kinds)]

    @abstractmethod
    def _mix(self, pixels: Tensor, batch: Batch, stream: int, grid: int) -> tuple[Tensor, Mix]:
        """Return mixed pixels (B, 3, H, W) and the mixture; no square of `grid` pixels is cut."""

    def partners(self, batch: Batch, stream: int) -> Tensor:
        """Return each sample's partner (B,), a permutation inside each group."""
        clock = batch.clock
        return permutation_in_groups(clock.seed, Purpose.PARTNER, clock.epoch, batch.position, batch.group, stream)

    def weights(self, batch: Batch, stream: int) -> Tensor:
        """Return the weight of each sample's own image (B,)."""
        if self.fixed is not None:
            return torch.full((len(batch),), self.fixed, dtype=torch.float64)
        clock = batch.clock
        return beta(clock.seed, Purpose.WEIGHT, clock.epoch, self.keys(batch), self.alpha, stream)

    def keys(self, batch: Batch) -> Tensor:
        """Return the positions that key the draws: the sample's, or the first of its group."""
        position = batch.position
        return position if self.scope == "sample" else position - position % batch.group
