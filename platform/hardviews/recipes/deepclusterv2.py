"""DeepCluster-v2 on ImageNet as published: Caron et al., SwAV's appendix (NeurIPS 2020), and its code.

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  64 GPUs of 16 GB (published: 64 V100)
open      nothing
differs   bfloat16 on a GPU (published: float32); red pixels are divided by 0.229 (published: 0.228). Each view is
          normalised by its own batch (published: all views of a size together, in the head all views). Running
          statistics move once for each size, as published for the backbone. BatchNorm is over all ranks (published:
          groups of 8 GPUs); docs/methods/deepcluster.md

Values come from the scripts of facebookresearch/swav: LARC without clipping, on all weights, 4.8 for a batch of 4096
after 10 epochs of warm-up from 0.3, half a cosine by steps to 0.0048, weight decay 1e-6; three tables of 3,000
clusters, temperature 0.1. The run of 800 epochs has two views of 224 pixels and six of 96. The run of 400 epochs has
two of 160 and four of 96, and `2x224` has no small ones. There is no published run of 200 epochs: it is a shorter form
of the run of 800. It was published without hard views: the `_hvs` recipes choose two of four full-size views and change
nothing else.

Hours: the README has 3 min 13 s an epoch for two views of 160 pixels and four of 96, on 64 V100. Others are in
proportion to the passes through the network: a forward pass at 224 pixels is 1, at 160 0.51, at 96 0.18, a backward
pass twice that. That run takes 5.3 a step, the one of 800 epochs 9.3, the one without small views 6; choosing among
four views takes 2, 4 and 4 more.
"""

from hardviews.methods.deepcluster import DeepClusterConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import swav_global


def deepclusterv2(
    name: str, epochs: int, strategy: Strategy | None = None, config: DeepClusterConfig | None = None
) -> Recipe:
    """Return DeepCluster-v2 under a strategy; HEXA_DCluster shares it."""
    return Recipe(
        name,
        config or DeepClusterConfig(),
        Backbone("resnet50", zero_residual=False),
        strategy or Clean(),
        Training(epochs=epochs, batch=4096),
        Optimizer("lars", 4.8, reference_batch=4096, weight_decay=1e-6, momentum=0.9),
        Schedule(warmup=10 / epochs, start=0.0625, final=0.001),
    )


_SMALLER = DeepClusterConfig(locals=4, view=swav_global(160, (0.08, 1.0)))
_TWO_VIEWS = DeepClusterConfig(locals=0, view=swav_global(224, (0.08, 1.0)))


def deepclusterv2_r50_200() -> Recipe:
    """DeepCluster-v2, ResNet-50, 200 epochs.

    hours     19 (200 x 3 min 13 s x 9.3/5.3)
    number    not known (no run of 200 epochs was published)
    """
    return deepclusterv2("deepclusterv2_r50_200", 200)


def deepclusterv2_r50_400() -> Recipe:
    """DeepCluster-v2 on smaller views, ResNet-50, 400 epochs.

    hours     21 (published)
    number    74.3 linear (facebookresearch/swav, README)
    """
    return deepclusterv2("deepclusterv2_r50_400", 400, config=_SMALLER)


def deepclusterv2_r50_400_2x224() -> Recipe:
    """DeepCluster-v2 on two views alone, ResNet-50, 400 epochs.

    hours     24 (21 x 6/5.3)
    number    70.2 linear (facebookresearch/swav, README)
    """
    return deepclusterv2("deepclusterv2_r50_400_2x224", 400, config=_TWO_VIEWS)


def deepclusterv2_r50_800() -> Recipe:
    """DeepCluster-v2, ResNet-50, 800 epochs.

    hours     75 (800 x 3 min 13 s x 9.3/5.3)
    number    75.2 linear (facebookresearch/swav, README)
    """
    return deepclusterv2("deepclusterv2_r50_800", 800)


def deepclusterv2_r50_200_hvs() -> Recipe:
    """DeepCluster-v2 on hard views (N=4), ResNet-50, 200 epochs.

    hours     27 (19 x 13.3/9.3)
    number    not known (nobody published hard views on DeepCluster-v2)
    """
    return deepclusterv2("deepclusterv2_r50_200_hvs", 200, HardViews(4))


def deepclusterv2_r50_400_hvs() -> Recipe:
    """DeepCluster-v2 on smaller hard views (N=4), ResNet-50, 400 epochs.

    hours     30 (400 x 3 min 13 s x 7.3/5.3)
    number    not known (nobody published hard views on DeepCluster-v2)
    """
    return deepclusterv2("deepclusterv2_r50_400_hvs", 400, HardViews(4), _SMALLER)


def deepclusterv2_r50_400_2x224_hvs() -> Recipe:
    """DeepCluster-v2 on two hard views (N=4) alone, ResNet-50, 400 epochs.

    hours     40 (21 x 10/5.3)
    number    not known (nobody published hard views on DeepCluster-v2)
    """
    return deepclusterv2("deepclusterv2_r50_400_2x224_hvs", 400, HardViews(4), _TWO_VIEWS)


def deepclusterv2_r50_800_hvs() -> Recipe:
    """DeepCluster-v2 on hard views (N=4), ResNet-50, 800 epochs.

    hours     108 (800 x 3 min 13 s x 13.3/5.3)
    number    not known (nobody published hard views on DeepCluster-v2)
    """
    return deepclusterv2("deepclusterv2_r50_800_hvs", 800, HardViews(4))
