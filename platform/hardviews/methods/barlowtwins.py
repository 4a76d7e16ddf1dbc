"""Barlow Twins: the matrix of correlations between features of two views approaches the identity.

Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction" (ICML 2021, arXiv 2103.03230),
equations 1 and 2, algorithm 1.

The loss is a function of the matrix of a whole batch. Here each sample gets its share: to first order, the change of
the loss by the sample's own row. The mean of all shares has the value and the gradient of the published loss.

Shape legend: B samples of this rank, D width, P pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hardviews.batch import Batch
from hardviews.checked import at_least, require
from hardviews.collectives import sum_over_ranks
from hardviews.full_precision import full_precision
from hardviews.methods.heads import mlp
from hardviews.methods.method import Method, MethodConfig
from hardviews.views.augmentation import Augmentation, byol_first, byol_second
from hardviews.views.plan import Pair, Plan, Pool, Slot

# Two kinds of views are two pools: a selection keeps one view of each kind.
FIRST, SECOND = Slot("first", 0), Slot("second", 0)


@dataclass(frozen=True)
class BarlowTwinsConfig(MethodConfig):
    """Barlow Twins' projector, trade-off and views; the defaults are for ResNet-50 on ImageNet.

    Attributes:
        width: width of the projector's layers.
        layers: number of layers of the projector.
        redundancy: weight of the squared correlations between different features (lambda).
        first: distribution of the first view.
        second: distribution of the second view.
    """

    width: int = 8192
    layers: int = 3
    redundancy: float = 0.0051
    first: Augmentation = field(default_factory=byol_first)
    second: Augmentation = field(default_factory=byol_second)

    def __post_init__(self) -> None:
        """Refuse projectors without layers, and negative weights."""
        require(self, "method", width=at_least(1), layers=at_least(1), redundancy=at_least(0))

    def build(self, backbone: nn.Module, features: int) -> "BarlowTwins":
        """Build the method over a backbone of that many features."""
        return BarlowTwins(self, backbone, features)


class BarlowTwins(Method):
    """Features of both views are correlated over the batch; gradients reach both views."""

    needs_others = True

    def __init__(self, config: BarlowTwinsConfig, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = mlp([features] + [config.width] * config.layers, last_norm=False, last_bias=False)
        self.standardise = nn.BatchNorm1d(config.width, affine=False)

    def plan(self) -> Plan:
        """Return one view of each kind."""
        return Plan((Pool("first", 1, self.config.first), Pool("second", 1, self.config.second)))

    def pairs(self) -> tuple[Pair, ...]:
        """Return both directions, half the weight each; they differ only if one view is hard."""
        return Pair(FIRST, SECOND, 0.5), Pair(SECOND, FIRST, 0.5)

    @property
    def exported_head(self) -> nn.Module:
        """The projector."""
        return self.projector

    def embed(self, pixels: Tensor) -> Tensor:
        """Return embeddings (B, D) whose features have mean 0 and variance 1 over the batch of all ranks."""
        standardised: Tensor = self.standardise(full_precision(self.projector(self.backbone(pixels))))
        return standardised

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return the samples' shares (P, B) of the loss of each pair; both directions of two clean views are equal."""
        made: dict[tuple[int, int], Tensor] = {}
        losses = []
        for pair in pairs:
            ends = online[pair.online], target[pair.target]
            # Always in this order: then rounding is equal for both directions, with and without a hard view.
            first_BD, second_BD = ends if pair.online.pool == FIRST.pool else ends[::-1]
            key = id(first_BD), id(second_BD)
            if key not in made:
                made[key] = shares(first_BD, second_BD, self.config.redundancy)
            losses.append(made[key])
        return torch.stack(losses)


def shares(first_BD: Tensor, second_BD: Tensor, redundancy: float) -> Tensor:
    """Return each sample's share (B,) of the loss of the correlations C between standardised embeddings of two views.

    The loss is L(C) = sum_d (C_dd - 1)^2 + redundancy * sum_{d != e} C_de^2. C is the mean of a_i b_i^T over the
    samples i of all ranks. With the slope S = dL/dC, held constant, the share of sample i is a_i^T S b_i + L - <S, C>.
    So the mean of all shares is L, and the gradient of that mean is the gradient of L.
    """
    with torch.autocast(first_BD.device.type, enabled=False):
        with torch.no_grad():
            total_DD = sum_over_ranks(first_BD.T @ second_BD)
            slope_DD = total_DD / sum_over_ranks(first_BD.new_full((), len(first_BD)))
            own_D = slope_DD.diagonal().clone()
            slope_DD.fill_diagonal_(0)
            # L - <S, C>, with its terms collected.
            rest = (1 - own_D.square()).sum() - redundancy * slope_DD.square().sum()
            slope_DD *= 2 * redundancy
            slope_DD.diagonal().copy_(2 * (own_D - 1))
        influence_B: Tensor = ((first_BD @ slope_DD) * second_BD).sum(1)
        return influence_B + rest
