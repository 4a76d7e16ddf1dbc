"""SwAV on ImageNet as published: Caron et al., "Unsupervised Learning by Contrasting Cluster Assignments" (2020).

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  64 GPUs of 16 GB (published: 64 V100)
open      nothing
differs   red pixels are divided by 0.229 (published: 0.228). Each view is normalised by its own batch (published: all
          views of a size together, in the head all views). Running statistics move once for each size, as published
          for the backbone. BatchNorm is over all ranks (published at a batch of 4096: groups of 8 GPUs). At a batch of
          256 there is one queue (published: two); docs/methods/swav.md

Values come from the scripts of facebookresearch/swav: LARC without clipping, on all weights, 4.8 for a batch of
4096 after 10 epochs of warm-up from 0.3, half a cosine by steps to 0.0048, weight decay 1e-6; two views of 224 pixels
and six of 96. At a batch of 256 the rate is 0.6 without warm-up, with a queue of 3,840 from epoch 15 on, and
prototypes wait for an epoch. It was published without hard views: the `_hvs` recipes choose two of four full-size
views and change nothing else.

Hours come from the README: 3 min 40 s an epoch on 64 V100 in half precision, 52 min 10 s at a batch of 256 on 4. Other
hours are in proportion to the passes through the network. A forward pass at 224 pixels counts 1, at 96 pixels 0.18, a
backward pass twice that. A step takes 9.3, two views alone 6, and a choice among four 4 more.
"""

from dataclasses import replace

from hardviews.methods.swav import SwAVConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import swav_global

_LARC = Optimizer("lars", 4.8, reference_batch=4096, weight_decay=1e-6, momentum=0.9)


def _swav(name: str, epochs: int, strategy: Strategy | None = None, config: SwAVConfig | None = None) -> Recipe:
    return Recipe(
        name,
        config or SwAVConfig(),
        Backbone("resnet50", zero_residual=False),
        strategy or Clean(),
        Training(epochs=epochs, batch=4096),
        _LARC,
        Schedule(warmup=10 / epochs, start=0.0625, final=0.001),
    )


def _small_batch(name: str, epochs: int, strategy: Strategy | None = None) -> Recipe:
    return replace(
        _swav(name, epochs, strategy, SwAVConfig(queue=3840, queue_from=15, freeze=5005)),
        training=Training(epochs=epochs, batch=256),
        optimizer=replace(_LARC, learning_rate=0.6, reference_batch=256),
        schedule=Schedule(final=0.001),
    )


def _two_views(name: str, strategy: Strategy | None = None) -> Recipe:
    return _swav(name, 400, strategy, SwAVConfig(locals=0, view=swav_global(scale=(0.08, 1.0))))


def swav_r50_100() -> Recipe:
    """SwAV, ResNet-50, 100 epochs.

    hours     6 (published)
    number    72.1 linear (facebookresearch/swav, README)
    """
    return _swav("swav_r50_100", 100)


def swav_r50_200() -> Recipe:
    """SwAV, ResNet-50, 200 epochs.

    hours     12 (published)
    number    73.9 linear (facebookresearch/swav, README)
    """
    return _swav("swav_r50_200", 200)


def swav_r50_400() -> Recipe:
    """SwAV, ResNet-50, 400 epochs.

    hours     24 (published)
    number    74.6 linear (facebookresearch/swav, README)
    """
    return _swav("swav_r50_400", 400)


def swav_r50_800() -> Recipe:
    """SwAV, ResNet-50, 800 epochs.

    hours     49 (published)
    number    75.3 linear (facebookresearch/swav, README)
    """
    return _swav("swav_r50_800", 800)


def swav_r50_400_2x224() -> Recipe:
    """SwAV on two views alone, ResNet-50, 400 epochs.

    hours     16 (400 x 3 min 40 s x 6/9.3)
    number    70.1 linear (facebookresearch/swav, README)
    """
    return _two_views("swav_r50_400_2x224")


def swav_r50_200_bs256() -> Recipe:
    """SwAV with a batch of 256 and a queue, ResNet-50, 200 epochs.

    hardware  4 GPUs of 16 GB (published: 4 V100)
    hours     174 (published)
    number    72.7 linear (facebookresearch/swav, README)
    """
    return _small_batch("swav_r50_200_bs256", 200)


def swav_r50_400_bs256() -> Recipe:
    """SwAV with a batch of 256 and a queue, ResNet-50, 400 epochs.

    hardware  4 GPUs of 16 GB (published: 4 V100)
    hours     348 (published)
    number    74.3 linear (facebookresearch/swav, README)
    """
    return _small_batch("swav_r50_400_bs256", 400)


def swav_r50_100_hvs() -> Recipe:
    """SwAV on hard views (N=4), ResNet-50, 100 epochs.

    hours     9 (6 x 13.3/9.3)
    number    not known (nobody published hard views on SwAV)
    """
    return _swav("swav_r50_100_hvs", 100, HardViews(4))


def swav_r50_200_hvs() -> Recipe:
    """SwAV on hard views (N=4), ResNet-50, 200 epochs.

    hours     17 (12 x 13.3/9.3)
    number    not known (nobody published hard views on SwAV)
    """
    return _swav("swav_r50_200_hvs", 200, HardViews(4))


def swav_r50_400_hvs() -> Recipe:
    """SwAV on hard views (N=4), ResNet-50, 400 epochs.

    hours     34 (24 x 13.3/9.3)
    number    not known (nobody published hard views on SwAV)
    """
    return _swav("swav_r50_400_hvs", 400, HardViews(4))


def swav_r50_800_hvs() -> Recipe:
    """SwAV on hard views (N=4), ResNet-50, 800 epochs.

    hours     70 (49 x 13.3/9.3)
    number    not known (nobody published hard views on SwAV)
    """
    return _swav("swav_r50_800_hvs", 800, HardViews(4))


def swav_r50_400_2x224_hvs() -> Recipe:
    """SwAV on two hard views (N=4) alone, ResNet-50, 400 epochs.

    hours     26 (24 x 10/9.3)
    number    not known (nobody published hard views on SwAV)
    """
    return _two_views("swav_r50_400_2x224_hvs", HardViews(4))


def swav_r50_200_bs256_hvs() -> Recipe:
    """SwAV on hard views (N=4) with a batch of 256 and a queue, ResNet-50, 200 epochs.

    hardware  4 GPUs of 16 GB
    hours     249 (174 x 13.3/9.3)
    number    not known (nobody published hard views on SwAV)
    """
    return _small_batch("swav_r50_200_bs256_hvs", 200, HardViews(4))


def swav_r50_400_bs256_hvs() -> Recipe:
    """SwAV on hard views (N=4) with a batch of 256 and a queue, ResNet-50, 400 epochs.

    hardware  4 GPUs of 16 GB
    hours     498 (348 x 13.3/9.3)
    number    not known (nobody published hard views on SwAV)
    """
    return _small_batch("swav_r50_400_bs256_hvs", 400, HardViews(4))
