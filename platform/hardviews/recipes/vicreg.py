"""VICReg on ImageNet as published: Bardes et al., "VICReg: Variance-Invariance-Covariance Regularization" (ICLR 2022).

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  32 GPUs of 32 GB (published: 4 nodes of 8 GPUs)
open      nothing
differs   bfloat16 on a GPU (published: fp16), and the loss in float32 (published: products of it in fp16);
          docs/methods/vicreg.md

Values come from facebookresearch/vicreg: coefficients 25, 25 and 1, an expander of three layers of 8192, LARS
without adaptation and decay of biases and norms, 10 epochs of warm-up, a cosine by steps that ends at a thousandth of
the peak. The learning rate is 0.2 for every 256 images at a batch of 2048, and 0.3 at 512. VICReg was published without
hard views: the `_hvs` recipes add four candidates, two for each kind of view, and change nothing else.

Hours are estimated from MoCo-v2's 53 for 200 epochs on 8 V100 (its README), in proportion to the passes through the
network. A forward pass counts 1, a backward pass 2. MoCo-v2 takes 4, VICReg 6, and a choice among four views 4 more.
The expander and its loss are not counted.
"""

from hardviews.methods.vicreg import VICRegConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training


def _vicreg(name: str, epochs: int, batch: int, rate: float, strategy: Strategy | None = None) -> Recipe:
    return Recipe(
        name,
        VICRegConfig(),
        Backbone("resnet50"),
        strategy or Clean(),
        Training(epochs=epochs, batch=batch),
        Optimizer("lars_byol", rate, reference_batch=256, weight_decay=1e-6, momentum=0.9, decay_biases=False),
        Schedule(warmup=10 / epochs, final=0.001),
    )


def vicreg_r50_100() -> Recipe:
    """VICReg, ResNet-50, 100 epochs at a batch of 512.

    hardware  8 GPUs of 32 GB (published: 8 GPUs)
    hours     40 (53 x 6/4 x 100/200)
    number    not known (facebookresearch/vicreg, README, has the command alone; the paper's ablations were not at hand)
    """
    return _vicreg("vicreg_r50_100", 100, 512, 0.3)


def vicreg_r50_1000() -> Recipe:
    """VICReg, ResNet-50, 1000 epochs at a batch of 2048.

    hours     99 (53/4 x 6/4 x 1000/200)
    number    73.2 linear (facebookresearch/vicreg, README; paper, table 1)
    """
    return _vicreg("vicreg_r50_1000", 1000, 2048, 0.2)


def vicreg_r50_100_hvs() -> Recipe:
    """VICReg on hard views (N=4), ResNet-50, 100 epochs at a batch of 512.

    hardware  8 GPUs of 32 GB (published without hard views: 8 GPUs)
    hours     66 (53 x 10/4 x 100/200)
    number    not known (nobody published hard views on VICReg)
    """
    return _vicreg("vicreg_r50_100_hvs", 100, 512, 0.3, HardViews(4))


def vicreg_r50_1000_hvs() -> Recipe:
    """VICReg on hard views (N=4), ResNet-50, 1000 epochs at a batch of 2048.

    hours     166 (53/4 x 10/4 x 1000/200)
    number    not known (nobody published hard views on VICReg)
    """
    return _vicreg("vicreg_r50_1000_hvs", 1000, 2048, 0.2, HardViews(4))
