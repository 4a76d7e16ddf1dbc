"""BYOL on ImageNet as published: Grill et al., "Bootstrap Your Own Latent" (NeurIPS 2020).

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  32 GPUs of 32 GB (published: TPU v3)
open      nothing
differs   the target network begins as a copy of the online one (published: an own draw). Brightness is changed by a
          factor (published: by an addend), and contrast about the mean grey (published: about each channel's mean);
          docs/methods/byol.md

Values come from deepmind-research/byol: a batch of 4096, LARS without adaptation and decay of biases and norms, 10
epochs of warm-up, a cosine by steps. Learning rate, weight decay and momentum of the target network depend on the
number of epochs. It was published without hard views: the `_hvs` recipes add four candidates, two for each kind of
view, and change nothing else.

Hours on 32 V100 are estimated from MoCo-v2's 53 for 200 epochs on 8 V100 (its README): a quarter of them, in proportion
to the passes through the network. A forward pass counts 1, a backward pass 2. MoCo-v2 takes 4, BYOL 8, and a choice
among four views 8 more.
"""

from hardviews.methods.byol import BYOLConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training


def _byol(
    name: str, epochs: int, rate: float, decay: float, momentum: float, strategy: Strategy | None = None
) -> Recipe:
    return Recipe(
        name,
        BYOLConfig(momentum=momentum),
        Backbone("resnet50"),
        strategy or Clean(),
        Training(epochs=epochs, batch=4096),
        Optimizer("lars_byol", rate, reference_batch=256, weight_decay=decay, momentum=0.9, decay_biases=False),
        Schedule(warmup=10 / epochs),
    )


def byol_r50_300() -> Recipe:
    """BYOL, ResNet-50, 300 epochs.

    hours     40 (53/4 x 8/4 x 300/200)
    number    not known (the paper's ablations have it; their table was not at hand)
    """
    return _byol("byol_r50_300", 300, 0.3, 1e-6, 0.99)


def byol_r50_1000() -> Recipe:
    """BYOL, ResNet-50, 1000 epochs.

    hours     133 (53/4 x 8/4 x 1000/200)
    number    74.3 linear (paper, abstract; 74.4 for the released weights)
    """
    return _byol("byol_r50_1000", 1000, 0.2, 1.5e-6, 0.996)


def byol_r50_300_hvs() -> Recipe:
    """BYOL on hard views (N=4), ResNet-50, 300 epochs.

    hours     80 (53/4 x 16/4 x 300/200)
    number    not known (nobody published hard views on BYOL)
    """
    return _byol("byol_r50_300_hvs", 300, 0.3, 1e-6, 0.99, HardViews(4))


def byol_r50_1000_hvs() -> Recipe:
    """BYOL on hard views (N=4), ResNet-50, 1000 epochs.

    hours     265 (53/4 x 16/4 x 1000/200)
    number    not known (nobody published hard views on BYOL)
    """
    return _byol("byol_r50_1000_hvs", 1000, 0.2, 1.5e-6, 0.996, HardViews(4))
