"""SimCLR on ImageNet as published: Chen et al., "A Simple Framework for Contrastive Learning" (ICML 2020).

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  32 GPUs of 32 GB (published: 32 TPU v3)
open      nothing
differs   each view is normalised by its own batch (published: both as one batch), pixels by ImageNet's mean and
          deviation (published: not at all). The loss is the mean of both directions (published: their sum). The head's
          last BatchNorm has a shift (published: only a scale). Contrast is changed about the mean grey (published:
          about each channel's mean). `_hvs`: scoring normalises view by view and does not move running statistics
          (published: all candidates as one batch, with moving statistics; --strategy.normalise together
          --strategy.move-statistics does the same); docs/methods/simclr.md

Values come from the paper and google-research/simclr: a batch of 4096, LARS at 0.3 for every 256 images (4.8)
with a weight decay of 1e-6, neither on biases and norms, 10 epochs of warm-up, a cosine by steps, temperature 0.1, a
head of two layers. The `_hvs` recipes come from automl/hvp (Ferreira et al., ICLR 2025), with a weight decay of 1e-4
and a final rate of 1e-6.

Hours on 32 V100 are estimated from MoCo-v2's 53 for 200 epochs on 8 V100 (its README): a quarter of them, in proportion
to the passes through the network. A forward pass counts 1, a backward pass 2. MoCo-v2 takes 4, SimCLR 6, and a choice
among four views 4 more.
"""

from hardviews.methods.simclr import SimCLRConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training


def _simclr(
    name: str, epochs: int, weight_decay: float = 1e-6, final: float = 0.0, strategy: Strategy | None = None
) -> Recipe:
    return Recipe(
        name,
        SimCLRConfig(),
        Backbone("resnet50"),
        strategy or Clean(),
        Training(epochs=epochs, batch=4096),
        Optimizer("lars_simclr", 0.3, reference_batch=256, weight_decay=weight_decay, momentum=0.9, decay_biases=False),
        Schedule(warmup=10 / epochs, final=final, absolute=True),
    )


def simclr_r50_100() -> Recipe:
    """SimCLR, ResNet-50, 100 epochs.

    hours     10 (53/4 x 6/4 x 100/200; published: about 6 on 32 TPU v3)
    number    64.5 linear (google-research/simclr, README)
    """
    return _simclr("simclr_r50_100", 100)


def simclr_r50_1000() -> Recipe:
    """SimCLR, ResNet-50, 1000 epochs.

    hours     99 (53/4 x 6/4 x 1000/200)
    number    69.1 linear (google-research/simclr, the README's checkpoint)
    """
    return _simclr("simclr_r50_1000", 1000)


def simclr_r50_100_hvs() -> Recipe:
    """SimCLR on hard views (N=4), ResNet-50, 100 epochs.

    hours     17 (53/4 x 10/4 x 100/200)
    number    not known (its table is not in automl/hvp)
    open      N, which automl/hvp does not record for SimCLR: 4, as for its other methods
    """
    return _simclr("simclr_r50_100_hvs", 100, 1e-4, 1e-6, HardViews(4))


def simclr_r50_1000_hvs() -> Recipe:
    """SimCLR on hard views (N=4), ResNet-50, 1000 epochs: the values of 100 epochs, for longer.

    hours     166 (53/4 x 10/4 x 1000/200)
    number    not known (not published)
    open      all: automl/hvp has SimCLR for 100 epochs alone
    """
    return _simclr("simclr_r50_1000_hvs", 1000, 1e-4, 1e-6, HardViews(4))
