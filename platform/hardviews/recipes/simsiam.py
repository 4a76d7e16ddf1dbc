"""SimSiam on ImageNet as published: Chen & He, "Exploring Simple Siamese Representation Learning" (CVPR 2021).

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  8 GPUs of 32 GB (published: 8 V100)
open      nothing
differs   bfloat16 on a GPU (published: float32, with hard views fp16). A blur reaches as far as 3 sigma (published: 9
          taps, 4 pixels). `_hvs`: scoring normalises view by view and does not move running statistics (published: all
          candidates as one batch, with moving statistics; --strategy.normalise together --strategy.move-statistics does
          the same); docs/methods/simsiam.md

Values come from facebookresearch/simsiam: SGD at 0.05 for every 256 images, a cosine that falls by epochs, no
warm-up, a predictor whose rate stays, BatchNorm over the whole batch, residual branches that begin at zero. The
`_hvs` recipes come from automl/hvp (Ferreira et al., ICLR 2025): four views, the batch of 256 that its runs are
named after, all else as without hard views. Compare them with the same recipe without at `--training.batch 256`.

Hours are estimated from MoCo-v2's 53 for 200 epochs on 8 V100 (its README), in proportion to the passes through the
network. A forward pass counts 1, a backward pass 2. MoCo-v2 takes 4, SimSiam 6, and a choice among four views 4 more.
They are of float32 on V100; newer GPUs in bfloat16 take less.
"""

from hardviews.methods.simsiam import SimSiamConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training


def _simsiam(name: str, epochs: int, batch: int = 512, strategy: Strategy | None = None) -> Recipe:
    return Recipe(
        name,
        SimSiamConfig(),
        Backbone("resnet50"),
        strategy or Clean(),
        Training(epochs=epochs, batch=batch),
        Optimizer("momentum", learning_rate=0.05, reference_batch=256, weight_decay=1e-4, momentum=0.9),
        Schedule(per="epoch"),
    )


def simsiam_r50_100() -> Recipe:
    """SimSiam, ResNet-50, 100 epochs.

    hours     40 (53 x 6/4 x 100/200)
    number    68.1 linear (facebookresearch/simsiam, README)
    """
    return _simsiam("simsiam_r50_100", 100)


def simsiam_r50_200() -> Recipe:
    """SimSiam, ResNet-50, 200 epochs.

    hours     80 (53 x 6/4)
    number    69.76 linear (automl/hvp, the baseline of its runs; batch 256)
    """
    return _simsiam("simsiam_r50_200", 200)


def simsiam_r50_100_hvs() -> Recipe:
    """SimSiam on hard views (N=4), ResNet-50, 100 epochs.

    hours     66 (53 x 10/4 x 100/200; published: 1.55 times those without)
    number    68.98 linear (automl/hvp; 68.2 without)
    """
    return _simsiam("simsiam_r50_100_hvs", 100, 256, HardViews(4))


def simsiam_r50_200_hvs() -> Recipe:
    """SimSiam on hard views (N=4), ResNet-50, 200 epochs.

    hours     133 (53 x 10/4)
    number    70.47 linear (automl/hvp; 69.76 without)
    """
    return _simsiam("simsiam_r50_200_hvs", 200, 256, HardViews(4))
