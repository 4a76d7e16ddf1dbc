"""MoCo-v2 on ImageNet as published: Chen et al., "Improved Baselines with Momentum Contrastive Learning" (2020).

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  8 GPUs of 32 GB (published: 8 V100)
open      nothing
differs   bfloat16 on a GPU (published: float32); running statistics are means over all groups of 32 images (published:
          those of the first GPU); docs/methods/moco.md

Values come from facebookresearch/moco with `--mlp --moco-t 0.2 --aug-plus --cos`: SGD at 0.03 for a batch of 256,
weight decay 1e-4 on all weights, a cosine that falls by epochs, no warm-up; a queue of 65,536 keys, momentum 0.999.
It was published without hard views: the `_hvs` recipes choose query and key among four views and change nothing else.

Hours come from the README, 53 for 200 epochs on 8 V100. Others are in proportion to the passes through the
network: a forward pass is 1, a backward pass 2; MoCo-v2 takes 4, and choosing query and key among four views 8 more.
"""

from hardviews.methods.moco import MoCoConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training


def mocov2(name: str, epochs: int, strategy: Strategy | None = None) -> Recipe:
    """Return MoCo-v2 under a strategy; HEXA_MoCo shares it."""
    return Recipe(
        name,
        MoCoConfig(),
        Backbone("resnet50", zero_residual=False),
        strategy or Clean(),
        Training(epochs=epochs, batch=256),
        Optimizer("momentum", 0.03, reference_batch=256, weight_decay=1e-4, momentum=0.9),
        Schedule(per="epoch"),
    )


def mocov2_r50_200() -> Recipe:
    """MoCo-v2, ResNet-50, 200 epochs.

    hours     53 (published)
    number    67.5 linear (facebookresearch/moco, README: five runs, deviation 0.1; 67.7 for the released weights)
    """
    return mocov2("mocov2_r50_200", 200)


def mocov2_r50_800() -> Recipe:
    """MoCo-v2, ResNet-50, 800 epochs.

    hours     212 (53 x 800/200)
    number    71.1 linear (facebookresearch/moco, README)
    """
    return mocov2("mocov2_r50_800", 800)


def mocov2_r50_200_hvs() -> Recipe:
    """MoCo-v2 on hard views (N=4), ResNet-50, 200 epochs.

    hours     159 (53 x 12/4)
    number    not known (nobody published hard views on MoCo-v2)
    """
    return mocov2("mocov2_r50_200_hvs", 200, HardViews(4))


def mocov2_r50_800_hvs() -> Recipe:
    """MoCo-v2 on hard views (N=4), ResNet-50, 800 epochs.

    hours     636 (53 x 12/4 x 800/200)
    number    not known (nobody published hard views on MoCo-v2)
    """
    return mocov2("mocov2_r50_800_hvs", 800, HardViews(4))
