"""The settings of a published protocol of linear evaluation.

All of them freeze the encoder in eval mode and train a linear layer on its features of random crops. A protocol fixes
the rest: crops, optimizer, rates, batch, length, schedule, first weights, and the features that the layer reads.
"""

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["bilinear", "bicubic"]
WIDE = 768
"""Number of features from which on a vision transformer counts as wide: the width of a ViT-B."""


@dataclass(frozen=True)
class Crops:
    """Random resized crops with flips, as torchvision and TensorFlow draw them.

    Attributes:
        scale: smallest and largest area of a crop, as a share of the image's.
        flip: probability.
        interpolation: interpolation of the resize to the encoder's image size.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True)
class Reading:
    """The features that a head reads.

    Attributes:
        blocks: number of last blocks of a vision transformer whose class tokens are used, each after the final norm,
            side by side. 0 uses the encoder's own features: a ResNet's average pool, a transformer's class token.
        patches: the mean patch token of the last block as well.
    """

    blocks: int = 0
    patches: bool = False


@dataclass(frozen=True)
class LinearProtocol:
    """One published protocol of linear evaluation.

    Attributes:
        name: as the field names it.
        version: version of the protocol, raised whenever a value changes, so that an old number keeps its meaning.
        source: code or paper that the values come from.
        rates: learning rates; several are chosen from on held-out images.
        scaled: rates are for a batch of 256 and grow in proportion to the batch (Goyal et al. 2017).
        batch: images in a step.
        epochs: passes through the training images.
        steps: length of the training in steps, instead of epochs.
        crops: training views; None for the central crop, whose features are computed once.
        test: interpolation of the resize before the central crop of a test image.
        readings: features that heads read; there is a head for each of them and each rate.
        wide_readings: features of transformers from 768 features on, if they differ.
        pooled_rates: rates for networks without a class token, if they differ.
        optimizer: sgd, and sgd with Nesterov's momentum; larc, SGD with apex's LARC without clipping, which adapts
            biases too; lars, MAE's, which does not. Both adapt by a trust coefficient of 0.001.
        momentum: momentum of the optimizer.
        weight_decays: L2 weights; several are chosen from on held-out images.
        decays_bias: the weight decay applies to biases too.
        schedule: half a cosine to zero, or a tenth at each milestone.
        milestones: milestones of the schedule, as shares of the training.
        per: the rate changes at every step, or stays for an epoch.
        warmup: linear, as a share of the training.
        first: weights begin at N(0, 0.01), or as Haiku's: a truncated normal of deviation 1 / sqrt(features).
        batchnorm: normalise features by BatchNorm without weights before the head.
        partial: use of an epoch's last images that do not fill a batch: kept as a smaller batch, dropped, or joined
            with the first images of the next epoch.
    """

    name: str
    version: int
    source: str
    rates: tuple[float, ...]
    batch: int
    epochs: int
    scaled: bool = True
    steps: int | None = None
    crops: Crops | None = Crops()
    test: Interpolation = "bilinear"
    readings: tuple[Reading, ...] = (Reading(),)
    wide_readings: tuple[Reading, ...] = ()
    pooled_rates: tuple[float, ...] = ()
    optimizer: Literal["sgd", "nesterov", "larc", "lars"] = "sgd"
    momentum: float = 0.9
    weight_decays: tuple[float, ...] = (0.0,)
    decays_bias: bool = True
    schedule: Literal["cosine", "milestones"] = "cosine"
    milestones: tuple[float, ...] = ()
    per: Literal["step", "epoch"] = "step"
    warmup: float = 0.0
    first: Literal["normal", "haiku"] = "normal"
    batchnorm: bool = False
    partial: Literal["kept", "dropped", "joined"] = "kept"
