"""Barlow Twins on ImageNet as published: Zbontar et al., "Barlow Twins: Self-Supervised Learning" (ICML 2021).

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  16 GPUs of 32 GB (published: 16 V100)
open      nothing
differs   the gradient is taken of the loss of the whole batch (published: divided by the number of GPUs). The published
          sum of correlations over GPUs has no gradient of its own. LARS undoes this for weights, not for biases and
          norms. With --optimizer.bias-rate 0.0015 these take the steps published on 16 GPUs. bfloat16 on a GPU
          (published: fp16), and the loss in float32 (published: its products in fp16); docs/methods/barlowtwins.md

Values come from facebookresearch/barlowtwins: lambda 0.0051, a projector of three layers of 8192, a batch of 2048,
LARS without adaptation and decay of biases and norms, 10 epochs of warm-up, a cosine by steps that ends at a thousandth
of the peak. For every 256 images the learning rate is 0.2, and 0.0048 for biases and norms. The `_hvs` recipes add four
candidates, two for each kind of view, and change nothing else; no number of hard views on Barlow Twins was published.

Hours are estimated from the published 7 days on 16 V100 for 1000 epochs, in proportion to the passes through the
network. A forward pass counts 1, a backward pass 2. Barlow Twins takes 6, and a choice among four views 4 more.
"""

from hardviews.methods.barlowtwins import BarlowTwinsConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training


def _barlowtwins(name: str, epochs: int, strategy: Strategy | None = None) -> Recipe:
    return Recipe(
        name,
        BarlowTwinsConfig(),
        Backbone("resnet50"),
        strategy or Clean(),
        Training(epochs=epochs, batch=2048),
        Optimizer(
            "lars_byol",
            0.2,
            reference_batch=256,
            weight_decay=1e-6,
            momentum=0.9,
            decay_biases=False,
            bias_rate=0.0048 / 0.2,
        ),
        Schedule(warmup=10 / epochs, final=0.001),
    )


def barlowtwins_r50_300() -> Recipe:
    """Barlow Twins, ResNet-50, 300 epochs: the length of the paper's ablations.

    hours     50 (168 x 300/1000)
    number    71.4 linear (paper, section 4: the baseline of its ablations of the loss)
    """
    return _barlowtwins("barlowtwins_r50_300", 300)


def barlowtwins_r50_1000() -> Recipe:
    """Barlow Twins, ResNet-50, 1000 epochs.

    hours     168 (published; 7 days on 16 V100)
    number    73.5 linear (facebookresearch/barlowtwins, README; 73.2 in the paper)
    """
    return _barlowtwins("barlowtwins_r50_1000", 1000)


def barlowtwins_r50_300_hvs() -> Recipe:
    """Barlow Twins on hard views (N=4), ResNet-50, 300 epochs.

    hours     84 (168 x 10/6 x 300/1000)
    number    not known (automl/hvp has a branch for it, and no number)
    """
    return _barlowtwins("barlowtwins_r50_300_hvs", 300, HardViews(4))


def barlowtwins_r50_1000_hvs() -> Recipe:
    """Barlow Twins on hard views (N=4), ResNet-50, 1000 epochs.

    hours     280 (168 x 10/6)
    number    not known (automl/hvp has a branch for it, and no number)
    """
    return _barlowtwins("barlowtwins_r50_1000_hvs", 1000, HardViews(4))
