"""Every method with hard views on a small collection of photographs, on CPU or one GPU.

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  2 CPU cores
time      about a minute for 10,000 images in all, as 1,000 images and 10 epochs (shown as ETA)
expected  depends on the images; `hardviews knn --run RUN --data SHARDS --baselines` shows it beside raw pixels

Views are of 64 pixels. The augmentation is MoCo-v2's, for DINO and iBOT theirs; the crops are milder than ImageNet's,
since small collections show whole objects. Heads, queues and tables are small, and momentum encoders quick: runs are
short. With `--strategy.candidates 2` a recipe trains on random views.
"""

from dataclasses import replace

from hardviews.methods.byol import BYOLConfig
from hardviews.methods.deepcluster import DeepClusterConfig
from hardviews.methods.dino import DINOConfig
from hardviews.methods.ibot import IBOTConfig
from hardviews.methods.method import MethodConfig
from hardviews.methods.moco import MoCoConfig
from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.methods.swav import SwAVConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.recipes.recipe import Recipe, Training
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Chain, Clean, Sum
from hardviews.train.loader import LoaderConfig
from hardviews.views.augmentation import Augmentation

_VIEW = Augmentation(size=64, scale=(0.3, 1.0), sigma=(0.1, 0.6))
_HEXA = Sum((1.0, Clean()), (0.5, Adversarial(epsilon=4 / 255)), (0.5, CutMix()), average=True)
_SMALL = Augmentation(size=32, scale=(0.1, 0.3), sigma=(0.1, 0.6))


def _photos(name: str, method: MethodConfig, learning_rate: float, epochs: int = 10) -> Recipe:
    return Recipe(
        name,
        method,
        Backbone("test_resnet"),
        HardViews(4),
        Training(epochs=epochs, batch=128, checkpoint_steps=50, log_steps=5),
        Optimizer(learning_rate=learning_rate, weight_decay=1e-4),
        Schedule(warmup=0.05),
        LoaderConfig(workers=0),
    )


def photos() -> Recipe:
    """SimCLR with hard views (N=4) and a small ResNet on 64-pixel views of photographs."""
    return _photos("photos", SimCLRConfig(hidden=256, output=64, temperature=0.2, view=_VIEW), 0.3, epochs=20)


def photos_simsiam() -> Recipe:
    """SimSiam with hard views (N=4) and a small ResNet on photographs."""
    return _photos("photos_simsiam", SimSiamConfig(width=256, layers=2, bottleneck=64, view=_VIEW), 0.1)


def photos_byol() -> Recipe:
    """BYOL with hard views (N=4) and a small ResNet on photographs."""
    method = BYOLConfig(hidden=256, output=64, momentum=0.97, first=_VIEW, second=_VIEW)
    return _photos("photos_byol", method, 0.05)


def photos_swav() -> Recipe:
    """SwAV with hard views (N=4) and a small ResNet on photographs."""
    method = SwAVConfig(hidden=256, output=64, prototypes=64, freeze=10, locals=2, view=_VIEW, local=_SMALL)
    return _photos("photos_swav", method, 0.2)


def _transformer(name: str, method: MethodConfig) -> Recipe:
    return replace(
        _photos(name, method, 1e-3),
        backbone=Backbone("test_vit", image_size=64, patch_size=8),
        optimizer=Optimizer("adamw", 1e-3, 256, weight_decay=0.04, decay_biases=False, clip=3.0, clip_per="weight"),
        schedule=Schedule(warmup=0.1, final_weight_decay=0.4),
    )


def photos_dino() -> Recipe:
    """DINO with hard views (N=4) and a small transformer on photographs."""
    method = DINOConfig(
        hidden=128, bottleneck=64, outputs=512, freeze=0, momentum=0.98, locals=2, even=_VIEW, odd=_VIEW, local=_SMALL
    )
    return _transformer("photos_dino", method)


def photos_ibot() -> Recipe:
    """IBOT with hard views (N=4) and a small transformer on photographs."""
    method = IBOTConfig(
        hidden=128,
        bottleneck=64,
        outputs=512,
        freeze=0,
        momentum=0.98,
        teacher_temperature=0.04,
        warm_up=0,
        locals=2,
        even=_VIEW,
        odd=_VIEW,
        local=_SMALL,
    )
    return _transformer("photos_ibot", method)


def _moco() -> MoCoConfig:
    return MoCoConfig(hidden=256, output=64, queue=1024, momentum=0.99, view=_VIEW)


def _deepcluster() -> DeepClusterConfig:
    return DeepClusterConfig(hidden=256, output=64, heads=2, clusters=64, locals=2, view=_VIEW, local=_SMALL)


def photos_moco() -> Recipe:
    """MoCo-v2 with hard views (N=4) and a small ResNet on photographs."""
    return _photos("photos_moco", _moco(), 0.1)


def photos_deepcluster() -> Recipe:
    """DeepCluster-v2 with hard views (N=4) and a small ResNet on photographs."""
    return _photos("photos_deepcluster", _deepcluster(), 0.2)


def photos_hexa_moco() -> Recipe:
    """HEXA_MoCo on hard views (N=4): each also attacked and cut-mixed, with a small ResNet on photographs."""
    return replace(_photos("photos_hexa_moco", _moco(), 0.1), strategy=Chain(HardViews(4), _HEXA))


def photos_hexa_dcluster() -> Recipe:
    """HEXA_DCluster on hard views (N=4): each also attacked and cut-mixed, with a small ResNet on photographs."""
    return replace(_photos("photos_hexa_dcluster", _deepcluster(), 0.2), strategy=Chain(HardViews(4), _HEXA))
