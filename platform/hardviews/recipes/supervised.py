"""Supervised training of ResNet-50 on ImageNet: the baseline of pretraining followed by fine-tuning.

command   hardviews pretrain NAME --data SHARDS --output RUN
data      class folders, packed by `hardviews pack`: the labels are trained on
hardware  8 GPUs of 16 GB
open      nothing
differs   bfloat16 on a GPU (published: float32); BatchNorm over the whole batch (published: over each GPU's); crops
          and flips alone (CutMix's code jitters colours too)

`_90` has the settings of Goyal et al. 2017 (arXiv 1706.02677): a rate of 0.1 for every 256 images after 5 epochs of
warm-up, a tenth of it from the epochs 30, 60 and 80 on, a weight decay of 1e-4, crops of 8 to 100 %. The recipes of 300
epochs come from CutMix (Yun et al., ICCV 2019): a tenth of the rate from the epochs 75, 150 and 225 on, no warm-up. In
`_cutmix` every image is cut-mixed. It is the control for any claim that pretraining helps if all labels are there.

`_hvs` trains on the crop of four with the greatest loss. A hard crop can lose the labelled object, so its crops are
25 to 100 %: compare `--strategy.choose easiest`. `_advprop` attacks views by one step of 4/255 through a BatchNorm of
their own (Xie et al., CVPR 2020). Neither was published with these settings.

Hours are estimated from MoCo-v2's 53 for 200 epochs on 8 V100 (its README), in proportion to the passes through the
network. A forward pass counts 1, a backward pass 2. MoCo-v2 takes 4, supervised training 3, a choice among four crops 4
more, an attack 6 more. They are of float32 on V100; newer GPUs in bfloat16 take less.
"""

from dataclasses import replace

from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import supervised


def _supervised(name: str, epochs: int, strategy: Strategy | None = None, smallest: float = 0.08) -> Recipe:
    schedule = Schedule(warmup=5 / epochs, per="epoch", drops=(30 / 90, 60 / 90, 80 / 90))
    if epochs == 300:
        schedule = Schedule(per="epoch", drops=(0.25, 0.5, 0.75))
    return Recipe(
        name,
        SupervisedConfig(view=replace(supervised(), scale=(smallest, 1.0))),
        Backbone("resnet50"),
        strategy or Clean(),
        Training(epochs=epochs, batch=256, group=32),
        Optimizer("sgd", 0.1, 256, weight_decay=1e-4, momentum=0.9),
        schedule,
    )


def supervised_r50_90() -> Recipe:
    """ResNet-50 by labels, 90 epochs.

    hours     18 (53 x 3/4 x 90/200)
    number    76.40 supervised (Goyal et al. 2017, table 1, batch 256)
    """
    return _supervised("supervised_r50_90", 90)


def supervised_r50_300() -> Recipe:
    """ResNet-50 by labels, 300 epochs.

    hours     60 (53 x 3/4 x 300/200)
    number    76.32 supervised (Yun et al. 2019, table 3)
    """
    return _supervised("supervised_r50_300", 300)


def supervised_r50_300_cutmix() -> Recipe:
    """ResNet-50 by labels with CutMix, 300 epochs.

    hours     60 (53 x 3/4 x 300/200)
    number    78.60 supervised (Yun et al. 2019, table 3)
    """
    return _supervised("supervised_r50_300_cutmix", 300, CutMix())


def supervised_r50_90_hvs() -> Recipe:
    """ResNet-50 by labels on the hardest of four crops, 90 epochs.

    hours     42 (53 x 7/4 x 90/200)
    number    not known (nobody has published it)
    """
    return _supervised("supervised_r50_90_hvs", 90, HardViews(4), 0.25)


def supervised_r50_90_advprop() -> Recipe:
    """ResNet-50 by labels with attacked views, 90 epochs.

    hours     54 (53 x 9/4 x 90/200)
    number    not known (Xie et al. 2020 have 77.4 with 5 attack steps and another schedule)
    """
    attacked = Sum((1.0, Clean()), (1.0, Adversarial(epsilon=4 / 255)), average=True)
    return _supervised("supervised_r50_90_advprop", 90, attacked)
