"""BYOL: a network predicts the projection of another view by its own slowly moving average.

Grill et al., "Bootstrap Your Own Latent" (NeurIPS 2020, arXiv 2006.07733), section 3.1 and algorithm 1.

Shape legend: B samples of this rank, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from hardviews.batch import Batch, Samples
from hardviews.checked import at_least, require, within
from hardviews.clock import Clock
from hardviews.encoded import Encoded
from hardviews.methods.heads import mlp
from hardviews.methods.method import Method, MethodConfig
from hardviews.methods.simsiam import negative_cosine
from hardviews.models.momentum import MomentumEncoder, rising_momentum
from hardviews.views.augmentation import Augmentation, byol_first, byol_second
from hardviews.views.plan import Pair, Plan, Pool, Slot

# Two kinds of views are two pools: a selection that fills both slots keeps one view of each kind, as DINO's even x odd.
FIRST, SECOND = Slot("first", 0), Slot("second", 0)


@dataclass(frozen=True)
class BYOLConfig(MethodConfig):
    """BYOL's heads, momentum and views; the defaults are for ResNet-50 on ImageNet for 1000 epochs.

    Attributes:
        hidden: width of the hidden layer of the projector and of the predictor.
        output: width of the projection and of the prediction.
        momentum: momentum of the target network at the start of the training; it rises to 1 on a cosine. Published:
            0.996 for 1000 epochs, 0.99 for 300 and 100.
        first: distribution of the first view.
        second: distribution of the second view.
    """

    hidden: int = 4096
    output: int = 256
    momentum: float = 0.996
    first: Augmentation = field(default_factory=byol_first)
    second: Augmentation = field(default_factory=byol_second)

    def __post_init__(self) -> None:
        """Refuse momenta that do not average, and heads without width."""
        require(self, "method", hidden=at_least(1), output=at_least(1), momentum=within(0, 1))

    def build(self, backbone: nn.Module, features: int) -> "BYOL":
        """Build the method over a backbone of that many features."""
        return BYOL(self, backbone, features)


class BYOL(Method):
    """Each view's prediction is compared with the target network's projection of the other view.

    The target network normalises by its batches, so a target depends on the whole batch. Therefore a selection does not
    pass targets on, and `rowwise_targets` stays false.
    """

    def __init__(self, config: BYOLConfig, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = mlp([features, config.hidden, config.output], last_norm=False, last_bias=False)
        self.predictor = mlp([config.output, config.hidden, config.output], last_norm=False, last_bias=False)
        self.momentum = MomentumEncoder({"backbone": self.backbone, "projector": self.projector})

    def plan(self) -> Plan:
        """Return one view of each kind."""
        return Plan((Pool("first", 1, self.config.first), Pool("second", 1, self.config.second)))

    def pairs(self) -> tuple[Pair, ...]:
        """Return both directions, whose losses are added (not averaged)."""
        return Pair(FIRST, SECOND, 1.0), Pair(SECOND, FIRST, 1.0)

    @property
    def exported_head(self) -> nn.Module:
        """The projector."""
        return self.projector

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the online network's projections (B, D)."""
        projected: Tensor = self.projector(self.backbone(pixels))
        return projected

    def predict(self, embedding: Tensor) -> Tensor:
        """Return predictions (B, D)."""
        predicted: Tensor = self.predictor(embedding)
        return predicted

    @property
    def teacher(self) -> Callable[[Tensor], Tensor]:
        """The target network: backbone and projector that follow the online ones."""
        return self._target

    def _target(self, pixels: Tensor) -> Tensor:
        features = self.momentum.get_submodule("backbone")(pixels)
        projection: Tensor = self.momentum.get_submodule("projector")(features)
        return projection

    def pair_loss(self, batch: Batch, online: Tensor, target: Tensor, pair: Pair) -> Tensor:
        """Return the squared distance of the unit vectors, 2 - 2 cos: equation 2 of the paper."""
        return 2 + 2 * negative_cosine(online, target)

    def update(self, encoded: Encoded, clock: Clock, samples: Samples) -> None:
        """Move the target network towards the online one, which has just taken its step."""
        parts = {"backbone": self.backbone, "projector": self.projector}
        self.momentum.follow(parts, rising_momentum(self.config.momentum, clock.fraction))
