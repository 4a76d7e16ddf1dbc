"""Every method for small data: heads, queues and tables are small, momentum encoders quick, since runs are short.

`recipes/digits.py` and `recipes/photos.py` say on what views.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from hardviews.methods.barlowtwins import BarlowTwinsConfig
from hardviews.methods.byol import BYOLConfig
from hardviews.methods.deepcluster import DeepClusterConfig
from hardviews.methods.dino import DINOConfig
from hardviews.methods.ibot import IBOTConfig
from hardviews.methods.method import MethodConfig
from hardviews.methods.moco import MoCoConfig
from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.methods.supervised import SupervisedConfig
from hardviews.methods.swav import SwAVConfig
from hardviews.methods.vicreg import VICRegConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.train.loader import LoaderConfig
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import Augmentation

_HEXA = Sum(
    (1.0, Clean()), (0.5, Adversarial(epsilon=4 / 255, pairs="hard")), (0.5, CutMix(pairs="hard")), average=True
)


@dataclass(frozen=True)
class Small:
    """Every method on one kind of small data.

    Attributes:
        view: distribution of two views.
        local: distribution of smaller views, if a method has them.
        patch: side of a transformer's patches, pixels.
        epochs: passes over the data.
        batch: images a step.
        precision: device and number format.
    """

    view: Augmentation
    local: Augmentation
    patch: int
    epochs: int
    batch: int
    precision: Precision = field(default_factory=Precision)

    def simclr(self) -> SimCLRConfig:
        """Return SimCLR with a small head."""
        return SimCLRConfig(hidden=128, output=64, temperature=0.2, view=self.view)

    def simsiam(self) -> SimSiamConfig:
        """Return SimSiam with two layers in its projector, as for CIFAR-10 (section 4.7)."""
        return SimSiamConfig(width=256, layers=2, bottleneck=64, view=self.view)

    def byol(self) -> BYOLConfig:
        """Return BYOL with a small head and a quick target network."""
        return BYOLConfig(hidden=256, output=64, momentum=0.97, first=self.view, second=self.view)

    def vicreg(self) -> VICRegConfig:
        """Return VICReg with a small expander."""
        return VICRegConfig(width=256, layers=2, first=self.view, second=self.view)

    def barlowtwins(self) -> BarlowTwinsConfig:
        """Return Barlow Twins with a small projector: lambda is one over the number of features.

        The loss is a sum over features, a hundred times SimSiam's, so that learning rates are small.
        """
        return BarlowTwinsConfig(width=128, layers=2, redundancy=1 / 128, first=self.view, second=self.view)

    def moco(self) -> MoCoConfig:
        """Return MoCo-v2 with a short queue and a quick key encoder."""
        return MoCoConfig(hidden=256, output=64, queue=1024, momentum=0.99, view=self.view)

    def swav(self) -> SwAVConfig:
        """Return SwAV with few prototypes and two local views."""
        return SwAVConfig(hidden=256, output=64, prototypes=64, freeze=10, locals=2, view=self.view, local=self.local)

    def deepcluster(self) -> DeepClusterConfig:
        """Return DeepCluster-v2 with two heads of few clusters and two local views."""
        return DeepClusterConfig(
            hidden=256, output=64, heads=2, clusters=64, locals=2, view=self.view, local=self.local
        )

    def supervised(self, classes: int) -> SupervisedConfig:
        """Return a classifier of so many classes."""
        return SupervisedConfig(classes=classes, view=self.view)

    def dino(self) -> DINOConfig:
        """Return DINO with a small head, a quick teacher and two local views.

        On a ResNet, as in the paper's table 2, and with BatchNorm in the head, images differ from the first step on. A
        transformer's first embeddings are almost one, and their outputs stay uniform for longer than a small run takes.
        """
        return DINOConfig(**self._distillation(), batchnorm=True)

    def ibot(self) -> IBOTConfig:
        """Return iBOT with DINO's settings for small data; the temperature of patches stays as published.

        Its head has no BatchNorm: nothing would then keep a transformer's embeddings from drifting in one direction.
        """
        return IBOTConfig(**self._distillation(), teacher_temperature=0.04, warm_up=0)

    def _distillation(self) -> dict[str, Any]:
        return {
            "hidden": 128,
            "bottleneck": 64,
            "outputs": 512,
            "freeze": 0,
            "momentum": 0.98,
            "locals": 2,
            "even": self.view,
            "odd": self.view,
            "local": self.local,
        }

    def convolutional(self, name: str, method: MethodConfig, learning_rate: float) -> Recipe:
        """Return a recipe that trains a very small ResNet on hard views (N=4)."""
        return Recipe(
            name,
            method,
            Backbone("test_resnet"),
            HardViews(4),
            Training(epochs=self.epochs, batch=self.batch, checkpoint_steps=50, log_steps=5),
            Optimizer(learning_rate=learning_rate, weight_decay=1e-4),
            Schedule(warmup=0.05),
            LoaderConfig(workers=0),
            self.precision,
        )

    def self_distilled(self, name: str, method: MethodConfig, learning_rate: float) -> Recipe:
        """Return a recipe of DINO's kind: the same with AdamW, clipped gradients and a weight decay that rises."""
        return replace(
            self.convolutional(name, method, learning_rate),
            optimizer=Optimizer(
                "adamw", learning_rate, 256, weight_decay=0.04, decay_biases=False, clip=3.0, clip_per="weight"
            ),
            schedule=Schedule(warmup=0.1, final_weight_decay=0.4),
        )

    def transformer(self, name: str, method: MethodConfig, learning_rate: float) -> Recipe:
        """Return a recipe of DINO's kind that trains a very small ViT."""
        return replace(
            self.self_distilled(name, method, learning_rate),
            backbone=Backbone("test_vit", image_size=self.view.size, patch_size=self.patch, init="xavier"),
        )


def with_hexa(recipe: Recipe) -> Recipe:
    """Return a recipe whose views are attacked and cut-mixed besides, as HEXA's."""
    return replace(recipe, strategy=Chain(recipe.strategy, _HEXA))
