"""Supervised training: the pseudo-label of a view is the label of its image.

So training by labels can use every hard view of pretraining. With `HardViews` a network trains on the crop that it
classifies worst. Attacked views through a BatchNorm of their own are AdvProp (Xie et al., CVPR 2020). Cut-mixed views
are CutMix (Yun et al., ICCV 2019). Label smoothing is from Szegedy et al. (CVPR 2016), section 7.

Shape legend: B samples of this rank's share, K classes, P pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hardviews.batch import Batch, Mix
from hardviews.checked import at_least, require
from hardviews.encoded import Encoded
from hardviews.full_precision import full_precision
from hardviews.methods.each import each
from hardviews.methods.method import Method, MethodConfig
from hardviews.views.augmentation import Augmentation, supervised
from hardviews.views.plan import Pair, Plan, Pool, Slot

VIEW = Slot("view", 0)
LABEL = Slot("label", 0)
ABSENT = -1


@dataclass(frozen=True)
class SupervisedConfig(MethodConfig):
    """The classifier and its view; the defaults are for ResNet-50 on ImageNet.

    Attributes:
        classes: number of classes of the classifier; the dataset may have fewer.
        smoothing: share of the label that is spread evenly over all classes.
        view: distribution of the view.
    """

    classes: int = 1000
    smoothing: float = 0.0
    view: Augmentation = field(default_factory=supervised)

    def __post_init__(self) -> None:
        """Refuse a classifier of fewer than two classes."""
        require(self, "method", classes=at_least(2), smoothing=at_least(0, below=1))

    def build(self, backbone: nn.Module, features: int) -> "Supervised":
        """Build the method over a backbone of that many features."""
        return Supervised(self, backbone, features)


class Supervised(Method):
    """Cross-entropy of a linear classifier's logits with the label; a sample without a label has no loss."""

    labelled = True
    rowwise_targets = True  # labels

    def __init__(self, config: SupervisedConfig, backbone: nn.Module, features: int) -> None:
        """Begin with small weights and no bias (Goyal et al. 2017, section 5.1)."""
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.head = nn.Linear(features, config.classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def plan(self) -> Plan:
        """Return one view."""
        return Plan((Pool(VIEW.pool, 1, self.config.view),))

    def pairs(self) -> tuple[Pair, ...]:
        """Return the view with the label."""
        return (Pair(VIEW, LABEL, 1.0),)

    @property
    def classifier(self) -> nn.Module:
        """The linear classifier over the exported network's features."""
        return self.head

    @property
    def classes(self) -> int:
        """Number of classes of the classifier."""
        return self.config.classes

    @property
    def joins_views(self) -> bool:
        """Views are one batch on request."""
        return True

    def embed(self, pixels: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return full_precision(self.head(self.backbone(pixels)))

    def encode(self, batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        """Return logits (B, K) online, and the labels (B,) as the one target."""
        views = {slot: batch.online(slot) for slot in online}
        join = batch.together or self.by_row
        inputs = ((slot, view.pixels()) for slot, view in views.items())
        logits = each(self.embed, inputs, join, self if batch.by_view else None)
        return Encoded(logits, {LABEL: self._labels(batch)})

    def pair_loss(self, batch: Batch, online: Tensor, target: Tensor, pair: Pair) -> Tensor:
        """Return the cross-entropy (B,), 0 for a sample without a label."""
        smoothing = self.config.smoothing
        return cross_entropy(online, target, ignore_index=ABSENT, reduction="none", label_smoothing=smoothing)

    def mixed_floor(self, target: Mapping[Slot, Tensor], pair: Pair, mix: Mix) -> Tensor:
        """Return the entropy (B,) of the mixed label: both labels' shares, each smoothed."""
        labels_B = target[pair.target]
        weight_B = mix.weight.to(labels_B.device, torch.float32)
        same_B = labels_B == labels_B[mix.partner.to(labels_B.device)]
        rest = self.config.smoothing / self.config.classes
        sharp_B = 1 - self.config.smoothing
        shares = [
            torch.where(same_B, sharp_B, sharp_B * weight_B) + rest,
            torch.where(same_B, 0.0, sharp_B * (1 - weight_B)) + rest,
            torch.full_like(weight_B, rest),
        ]
        counts = 1, 1, self.config.classes - 2
        return torch.stack([n * torch.special.entr(p_B) for n, p_B in zip(counts, shares, strict=True)]).sum(0)

    def valid(self, batch: Batch, kind: str = "class") -> Tensor:
        """Return which samples have a label."""
        return self._labels(batch) != ABSENT

    def scores(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pair: Pair
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and labels (B,)."""
        return online[pair.online], target[pair.target]

    @torch.no_grad()
    def measures(self, batch: Batch, encoded: Encoded) -> Mapping[str, Tensor]:
        """Return whether the label is the most likely class (B,), and whether it is among the five most likely ones."""
        logits_BK, labels_B = encoded.online[VIEW], encoded.target[LABEL]
        own_B1 = logits_BK.gather(1, labels_B.clamp(min=0)[:, None])
        better_B = (logits_BK > own_B1).sum(1)
        valid_B = labels_B != ABSENT
        return {
            f"accuracy/top{k}": torch.where(valid_B, (better_B < k).float(), torch.nan)
            for k in (1, 5)
            if k < self.config.classes
        }

    def _labels(self, batch: Batch) -> Tensor:
        assert batch.labels is not None  # the method is `labelled`
        return batch.labels
