"""DINO: a student predicts its teacher's outputs for the full-size views from every view of an image.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (ICCV 2021, arXiv 2104.14294), algorithm 1
and equations 1 to 4. The settings come from the authors' scripts.

Shape legend: B samples of this rank, D bottleneck, K outputs, P pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hardviews.batch import Batch, Mix, Samples
from hardviews.checked import above, at_least, require, within
from hardviews.clock import Clock
from hardviews.encoded import Encoded
from hardviews.methods.centre import Centre
from hardviews.methods.dino_head import DINOHead
from hardviews.methods.method import Method, MethodConfig
from hardviews.methods.self_distillation import Comparison
from hardviews.models.batchnorm import has_batchnorm
from hardviews.models.momentum import MomentumEncoder, rising_momentum
from hardviews.views.augmentation import Augmentation, dino_global1, dino_global2, dino_local
from hardviews.views.plan import Pair, Plan, Pool, Slot

# Two kinds of full-size views are two pools: a selection keeps one of each kind, as published (even x odd).
EVEN, ODD = Slot("even", 0), Slot("odd", 0)


@dataclass(frozen=True)
class DINOConfig(MethodConfig):
    """DINO's head, teacher, centre and views; the defaults are for a ViT-S/16 on ImageNet.

    For long trainings the authors warm up the teacher: teacher_temperature=0.07 and warm_up=30.

    Attributes:
        hidden: width of the head's hidden layers.
        layers: number of layers of the head's MLP.
        bottleneck: width of the unit embedding in front of the last layer.
        outputs: number of outputs of the last layer.
        norm_last_layer: whether the last layer's weights keep length 1; otherwise their lengths are learned.
        batchnorm: whether there is BatchNorm behind the head's hidden layers.
        freeze: epochs at the start of the training in which the last layer does not change.
        student_temperature: temperature of the student's outputs.
        teacher_temperature: temperature of the teacher's outputs, after the warm-up.
        first_teacher_temperature: temperature of the teacher's outputs in the first epoch of a warm-up.
        warm_up: epochs of the teacher's warm-up, linear; 0 for none.
        momentum: momentum of the teacher at the start of the training; it rises to 1 on a cosine.
        centre_momentum: momentum of the centre of the teacher's outputs.
        locals: number of small views, which the student alone sees.
        even: distribution of the first full-size view.
        odd: distribution of the second full-size view.
        local: distribution of the small views.
    """

    hidden: int = 2048
    layers: int = 3
    bottleneck: int = 256
    outputs: int = 65536
    norm_last_layer: bool = True
    batchnorm: bool = False
    freeze: int = 1
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    first_teacher_temperature: float = 0.04
    warm_up: int = 0
    momentum: float = 0.996
    centre_momentum: float = 0.9
    locals: int = 8
    even: Augmentation = field(default_factory=dino_global1)
    odd: Augmentation = field(default_factory=dino_global2)
    local: Augmentation = field(default_factory=dino_local)

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        require(
            self,
            "method",
            hidden=at_least(1),
            layers=at_least(1),
            bottleneck=at_least(1),
            outputs=at_least(2),
            freeze=at_least(0),
            student_temperature=above(0),
            teacher_temperature=above(0),
            first_teacher_temperature=above(0),
            warm_up=at_least(0),
            momentum=within(0, 1),
            centre_momentum=within(0, 1),
            locals=at_least(0),
        )

    def build(self, backbone: nn.Module, features: int) -> "DINO":
        """Build the method over a backbone of that many features."""
        return DINO(self, backbone, features)


class DINO(Method):
    """Cross-entropy of each view's outputs with the teacher's for each full-size view but itself."""

    def __init__(self, config: DINOConfig, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.head = self._head(features)
        self.centre = Centre(config.outputs, config.centre_momentum)
        self.momentum = MomentumEncoder(self._followed())
        # If the teacher normalises by its batches, a target depends on the whole batch.
        self.rowwise_targets = not has_batchnorm(self.momentum)

    def _head(self, features: int) -> DINOHead:
        config = self.config
        return DINOHead(
            features,
            config.hidden,
            config.bottleneck,
            config.outputs,
            layers=config.layers,
            unit=config.norm_last_layer,
            batchnorm=config.batchnorm,
        )

    def _followed(self) -> dict[str, nn.Module]:
        """Return the modules of which the teacher has a copy."""
        return {"backbone": self.backbone, "head": self.head}

    @property
    def exported(self) -> nn.Module:
        """The teacher's backbone, as published: it is better than the student's throughout (section 5.2)."""
        return self.momentum.get_submodule("backbone")

    @property
    def exported_head(self) -> nn.Module:
        """The teacher's head, down to the bottleneck."""
        return self.momentum.get_submodule("head")

    def plan(self) -> Plan:
        """Return one full-size view of each kind, and the small ones."""
        pools = [Pool("even", 1, self.config.even), Pool("odd", 1, self.config.odd)]
        if self.config.locals:
            pools.append(Pool("local", self.config.locals, self.config.local, target=False))
        return Plan(tuple(pools))

    def pairs(self) -> tuple[Pair, ...]:
        """Return each of the teacher's views with every other view, equally weighted."""
        slots = self.plan().slots
        weight = 1 / (2 * (len(slots) - 1))
        return tuple(Pair(view, shown, weight) for shown in (EVEN, ODD) for view in slots if view != shown)

    def frozen(self, clock: Clock) -> Sequence[nn.Module]:
        """Return the last layer, in the first epochs."""
        return (self.head.last,) if clock.epoch < self.config.freeze else ()

    def embed(self, pixels: Tensor) -> Any:
        """Return the student's unit embeddings (B, D)."""
        return self.head(self.backbone(pixels))

    @property
    def teacher(self) -> Callable[[Tensor], Any]:
        """The moving average of backbone and head."""
        return self._taught

    def _taught(self, pixels: Tensor) -> Tensor:
        features = self.momentum.get_submodule("backbone")(pixels)
        embeddings_BD: Tensor = self.momentum.get_submodule("head")(features)
        return embeddings_BD

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return the cross-entropies (P, B), equation 1: all pairs of an image by one matrix product."""
        asked = [(pair.online, pair.target) for pair in pairs]
        return self._comparison(batch.clock).losses(asked, online, target)

    def mixed_loss(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pair: Pair, mix: Mix
    ) -> Tensor:
        """Return the cross-entropy (B,) with the mixture of both images' distributions."""
        asked = pair.online, pair.target
        return self._comparison(batch.clock).mixed_loss(asked, online, target, mix.partner, mix.weight)

    def scores(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pair: Pair
    ) -> tuple[Tensor, Tensor] | None:
        """Return the student's logits (B, K), and the teacher's most likely outputs (B,)."""
        return self._comparison(batch.clock).scores(online[pair.online], target[pair.target])

    def _comparison(self, clock: Clock) -> Comparison:
        config = self.config
        temperature = warmed_up(
            config.first_teacher_temperature, config.teacher_temperature, config.warm_up, clock.epoch
        )
        return Comparison(
            self.head.last.weights(),
            self._teachers_head().last.weights().detach(),
            self.centre.mean,
            config.student_temperature,
            temperature,
        )

    def _teachers_head(self) -> DINOHead:
        head = self.momentum.get_submodule("head")
        assert isinstance(head, DINOHead)
        return head

    @torch.no_grad()
    def update(self, encoded: Encoded, clock: Clock, samples: Samples) -> None:
        """Move the centre by the teacher's outputs for the selected views, then the teacher after the student."""
        shown_ND = torch.cat([encoded.target[slot] for slot in (EVEN, ODD)])
        self.centre.follow(shown_ND, self._teachers_head().last.weights())
        self.momentum.follow(self._followed(), rising_momentum(self.config.momentum, clock.fraction))


def warmed_up(first: float, last: float, epochs: int, epoch: int) -> float:
    """Return a value that grows linearly from epoch 0 to the last one of a warm-up, both ends included."""
    return last if epoch >= epochs else first + (last - first) * epoch / max(1, epochs - 1)
