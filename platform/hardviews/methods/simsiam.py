"""SimSiam: one network, a predictor, and a stop-gradient.

Chen & He, "Exploring Simple Siamese Representation Learning" (CVPR 2021), algorithm 1 and equation 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn.functional import normalize

from hardviews.batch import Batch
from hardviews.checked import at_least, require
from hardviews.full_precision import full_precision
from hardviews.methods.heads import mlp
from hardviews.methods.method import Method, MethodConfig
from hardviews.views.augmentation import Augmentation, mocov2
from hardviews.views.plan import Pair, Plan, Pool, Slot


@dataclass(frozen=True)
class SimSiamConfig(MethodConfig):
    """SimSiam's heads and views; the defaults are for ResNet-50 on ImageNet.

    Attributes:
        width: width of the projector's layers.
        layers: number of layers of the projector.
        bottleneck: width of the predictor's hidden layer.
        view: distribution of both views.
    """

    width: int = 2048
    layers: int = 3
    bottleneck: int = 512
    view: Augmentation = field(default_factory=mocov2)

    def __post_init__(self) -> None:
        """Refuse heads without layers."""
        require(self, "method", width=at_least(1), layers=at_least(1), bottleneck=at_least(1))

    def build(self, backbone: nn.Module, features: int) -> "SimSiam":
        """Build the method over a backbone of that many features."""
        return SimSiam(self, backbone, features)


class SimSiam(Method):
    """Each view predicts the other's projection, which takes no gradient."""

    def __init__(self, config: SimSiamConfig, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = mlp([features] + [config.width] * config.layers, last_norm=True, last_affine=False)
        self.predictor = mlp([config.width, config.bottleneck, config.width], last_norm=False)

    def plan(self) -> Plan:
        """Return two views of one distribution."""
        return Plan((Pool("view", 2, self.config.view),))

    def pairs(self) -> tuple[Pair, ...]:
        """Return both directions, half the weight each."""
        first, second = Slot("view", 0), Slot("view", 1)
        return Pair(first, second, 0.5), Pair(second, first, 0.5)

    def fixed_learning_rate(self) -> Sequence[nn.Module]:
        """Return the predictor: its learning rate does not decay (paper, section 4.2)."""
        return (self.predictor,)

    @property
    def exported_head(self) -> nn.Module:
        """The projector."""
        return self.projector

    def embed(self, pixels: Tensor) -> Tensor:
        """Return projections (B, D)."""
        projected: Tensor = self.projector(self.backbone(pixels))
        return projected

    def predict(self, embedding: Tensor) -> Tensor:
        """Return the predictor's output for a projection."""
        predicted: Tensor = self.predictor(embedding)
        return predicted

    def label(self, embedding: Tensor) -> Tensor:
        """Return the projection, which gets no gradient."""
        return embedding.detach()

    def pair_loss(self, batch: Batch, online: Tensor, target: Tensor, pair: Pair) -> Tensor:
        """Return the negative cosine similarity, equation 1 of the paper."""
        return negative_cosine(online, target)


def negative_cosine(online_BD: Tensor, target_BD: Tensor) -> Tensor:
    """Return -cos(online, target) row by row: (B, D), (B, D) to (B,)."""
    return -(normalize(full_precision(online_BD), dim=1) * normalize(full_precision(target_BD), dim=1)).sum(1)
