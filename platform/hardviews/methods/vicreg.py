"""VICReg: views of an image agree, every feature varies, and no two features vary together.

Bardes, Ponce & LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning" (ICLR 2022,
arXiv 2105.04906), equations 1 to 6 and algorithm 1.

Shape legend: B samples of this rank, G samples of all ranks, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hardviews.batch import Batch
from hardviews.checked import above, at_least, require
from hardviews.collectives import gather_rows
from hardviews.full_precision import full_precision
from hardviews.methods.heads import mlp
from hardviews.methods.method import Method, MethodConfig
from hardviews.views.augmentation import Augmentation, byol_first, byol_second
from hardviews.views.plan import Pair, Plan, Pool, Slot

# Two kinds of views are two pools: a selection keeps one view of each kind.
FIRST, SECOND = Slot("first", 0), Slot("second", 0)

_EPSILON = 1e-4  # added to a variance before its root (paper, equation 2)


@dataclass(frozen=True)
class VICRegConfig(MethodConfig):
    """VICReg's expander, coefficients and views; the defaults are for ResNet-50 on ImageNet.

    Attributes:
        width: width of the expander's layers.
        layers: number of layers of the expander.
        invariance: coefficient of the squared distance between both views' embeddings.
        variance: coefficient of the hinge that keeps the deviation of each feature above 1.
        covariance: coefficient of the squared covariances between features.
        first: distribution of the first view.
        second: distribution of the second view.
    """

    width: int = 8192
    layers: int = 3
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    first: Augmentation = field(default_factory=byol_first)
    second: Augmentation = field(default_factory=byol_second)

    def __post_init__(self) -> None:
        """Refuse expanders without layers, and losses that do not compare views."""
        require(
            self,
            "method",
            width=at_least(1),
            layers=at_least(1),
            invariance=above(0),
            variance=at_least(0),
            covariance=at_least(0),
        )

    def build(self, backbone: nn.Module, features: int) -> "VICReg":
        """Build the method over a backbone of that many features."""
        return VICReg(self, backbone, features)


class VICReg(Method):
    """The pair loss is the invariance; the variances and covariances of a batch are the regulariser."""

    needs_others = True

    def __init__(self, config: VICRegConfig, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = mlp([features] + [config.width] * config.layers, last_norm=False, last_bias=False)

    def plan(self) -> Plan:
        """Return one view of each kind."""
        return Plan((Pool("first", 1, self.config.first), Pool("second", 1, self.config.second)))

    def pairs(self) -> tuple[Pair, ...]:
        """Return both directions, half the weight each; they differ only if one view is hard."""
        return Pair(FIRST, SECOND, 0.5), Pair(SECOND, FIRST, 0.5)

    @property
    def exported_head(self) -> nn.Module:
        """The expander."""
        return self.projector

    def embed(self, pixels: Tensor) -> Tensor:
        """Return embeddings (B, D), which are not normalised."""
        return full_precision(self.projector(self.backbone(pixels)))

    def pair_loss(self, batch: Batch, online: Tensor, target: Tensor, pair: Pair) -> Tensor:
        """Return the weighted mean over features of the squared distance (B,): the invariance, equation 5."""
        return self.config.invariance * (online - target).square().mean(1)

    def regulariser(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return the weighted variance and covariance terms of both views, over the rows of all ranks.

        Equations 1 to 4. The hinge is the mean over both views, and the covariance term their sum, as in the authors'
        code.
        """
        config = self.config
        parts = []
        with torch.autocast(online[FIRST].device.type, enabled=False):
            for slot in (FIRST, SECOND):
                rows_GD, _ = gather_rows(online[slot])
                centred_GD = rows_GD - rows_GD.mean(0)
                parts.append(config.variance * hinge(centred_GD) / 2 + config.covariance * redundancy(centred_GD))
        return torch.stack(parts).sum()


def hinge(rows_GD: Tensor) -> Tensor:
    """Return the mean over features of max(0, 1 - deviation), a scalar: equation 1."""
    deviation_D = (rows_GD.var(0) + _EPSILON).sqrt()
    return (1 - deviation_D).relu().mean()


def redundancy(centred_GD: Tensor) -> Tensor:
    """Return the sum of the squared covariances between features over their number, a scalar: equations 3 and 4.

    If there are fewer rows than features, the products of rows are the smaller matrix. The squares of both matrices
    have the same sum, including the diagonal of the covariances.
    """
    rows, width = centred_GD.shape
    if rows < width:
        products_GG = centred_GD @ centred_GD.T / (rows - 1)
        variance_D = centred_GD.square().sum(0) / (rows - 1)
        return (products_GG.square().sum() - variance_D.square().sum()) / width
    covariance_DD = centred_GD.T @ centred_GD / (rows - 1)
    return covariance_DD.fill_diagonal_(0).square().sum() / width
