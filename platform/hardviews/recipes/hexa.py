"""HEXA on ImageNet: Li et al., "Self-supervised Pre-training with Hard Examples" (2020, arXiv 2012.13493).

command   hardviews pretrain NAME --data SHARDS --output RUN
open      attack, its bound, steps and BatchNorm, boxes and weights of CutMix, weights of terms, schedule, crops, batch
differs   the same as for the base: bfloat16 on a GPU (published: float32). HEXA_MoCo: running statistics are means over
          all groups of 32 images (published: statistics of the first GPU); docs/methods/moco.md. HEXA_DCluster: red
          pixels are divided by 0.229 (published: 0.228). Each view is normalised by its own batch (published: all views
          of a size together, in the head all views), over all ranks (published: groups of 8 GPUs);
          docs/methods/deepcluster.md

HEXA is the method below (MoCo-v2, DeepCluster-v2) with two more terms: adversarial views and cut-mixed views, whose
pseudo-labels are harder to predict. The publication's settings were not available; these settings are HEXA-style. The
attack is one FGSM step of 2/255 in pixels with a BatchNorm of its own (AdvProp, CLAE); boxes are CutMix's with weights
from Beta(1, 1). All terms have the same weight, and each is a mean over its own views. The step divides by the sum of
weights, so that SGD's steps keep their length. MoCo's keys stay clean, and a mixed query's label is split between both
keys in one candidate set (reading A). All else is the base's. The `_hvs` recipes choose among four views first, then
mix and attack the chosen ones: nobody published that.

The `_cheap` recipes take the attack's gradient from the clean term's backward pass. Their attacked views share the main
BatchNorm: each batch has its own statistics, and running statistics stay those of clean views. The clean gradient is
that of the main branch, and loses strength in a branch with other weights (docs/hexa.md). The `_turns` recipes besides
compute the adversarial term in even steps and the cut-mixed term in odd steps, each with twice the weight. Nobody
published either.

Numbers: a leaderboard (wizwand.com) has 75.5 linear, 57.3 with 1 % and 71.8 with 10 % of the labels for the paper,
and does not say for which variant. Base: 67.5 and 71.1 for MoCo-v2, 75.2 for DeepCluster-v2 at 800 epochs.

Hours are the base's in proportion to the passes through the network. MoCo-v2 takes 4, the attack 5 and CutMix 3 more, a
selection 8, and the attack along the clean gradient 3. DeepCluster-v2 takes 9.3, hard terms on both full-size views 16
more, a selection 4.
"""

from hardviews.recipes.deepclusterv2 import deepclusterv2
from hardviews.recipes.mocov2 import mocov2
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum, Weighted
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.strategy import Clean
from hardviews.train.recipe import Recipe

_HEXA = Sum((1.0, Clean()), (1.0, Adversarial(epsilon=2 / 255)), (1.0, CutMix()), average=True)
# To measure its strength costs four passes more: in every hundredth attack.
_CHEAP_ATTACK = Adversarial(epsilon=2 / 255, branch="main", gradient="clean", measure=100)
_CHEAP = Sum((1.0, Clean()), (1.0, _CHEAP_ATTACK), (1.0, CutMix()), average=True)
_TURNS = Sum((1.0, Clean()), (2.0, InTurn(_CHEAP_ATTACK, CutMix())), average=True)
# In epoch 0 the clusters are those of a random network. Hard terms are means over hard views: six clean small views
# would fill three quarters of them.
_LATE = Sum(
    (1.0, Clean()),
    Weighted(1.0, Adversarial(epsilon=2 / 255, pairs="hard"), begin=1),
    Weighted(1.0, CutMix(pairs="hard"), begin=1),
    average=True,
)


def hexa_moco_r50_200() -> Recipe:
    """HEXA_MoCo, ResNet-50, 200 epochs.

    hardware  8 GPUs of 32 GB
    hours     159 (53 x 12/4)
    number    not known (the paper has it)
    """
    return mocov2("hexa_moco_r50_200", 200, _HEXA)


def hexa_moco_r50_800() -> Recipe:
    """HEXA_MoCo, ResNet-50, 800 epochs.

    hardware  8 GPUs of 32 GB
    hours     636 (53 x 12/4 x 800/200)
    number    not known (the paper has it)
    """
    return mocov2("hexa_moco_r50_800", 800, _HEXA)


def hexa_moco_r50_200_hvs() -> Recipe:
    """HEXA_MoCo on hard views (N=4), ResNet-50, 200 epochs.

    hardware  8 GPUs of 32 GB
    hours     265 (53 x 20/4)
    number    not known (nobody published it)
    """
    return mocov2("hexa_moco_r50_200_hvs", 200, Chain(HardViews(4), _HEXA))


def hexa_moco_r50_800_hvs() -> Recipe:
    """HEXA_MoCo on hard views (N=4), ResNet-50, 800 epochs.

    hardware  8 GPUs of 32 GB
    hours     1060 (53 x 20/4 x 800/200)
    number    not known (nobody published it)
    """
    return mocov2("hexa_moco_r50_800_hvs", 800, Chain(HardViews(4), _HEXA))


def hexa_moco_r50_200_cheap() -> Recipe:
    """HEXA_MoCo with the clean term's gradient for the attack, ResNet-50, 200 epochs.

    hardware  8 GPUs of 32 GB
    hours     133 (53 x 10/4)
    number    not known (nobody published it)
    """
    return mocov2("hexa_moco_r50_200_cheap", 200, _CHEAP)


def hexa_moco_r50_800_cheap() -> Recipe:
    """HEXA_MoCo with the clean term's gradient for the attack, ResNet-50, 800 epochs.

    hardware  8 GPUs of 32 GB
    hours     530 (53 x 10/4 x 800/200)
    number    not known (nobody published it)
    """
    return mocov2("hexa_moco_r50_800_cheap", 800, _CHEAP)


def hexa_moco_r50_200_turns() -> Recipe:
    """HEXA_MoCo with the clean term's gradient and the hard terms in turn, ResNet-50, 200 epochs.

    hardware  8 GPUs of 32 GB
    hours     93 (53 x 7/4)
    number    not known (nobody published it)
    """
    return mocov2("hexa_moco_r50_200_turns", 200, _TURNS)


def hexa_moco_r50_800_turns() -> Recipe:
    """HEXA_MoCo with the clean term's gradient and the hard terms in turn, ResNet-50, 800 epochs.

    hardware  8 GPUs of 32 GB
    hours     371 (53 x 7/4 x 800/200)
    number    not known (nobody published it)
    """
    return mocov2("hexa_moco_r50_800_turns", 800, _TURNS)


def hexa_dcluster_r50_200() -> Recipe:
    """HEXA_DCluster, ResNet-50, 200 epochs.

    hardware  64 GPUs of 32 GB
    hours     52 (19 x 25.3/9.3)
    number    not known (the paper has it)
    """
    return deepclusterv2("hexa_dcluster_r50_200", 200, _LATE)


def hexa_dcluster_r50_800() -> Recipe:
    """HEXA_DCluster, ResNet-50, 800 epochs.

    hardware  64 GPUs of 32 GB
    hours     204 (75 x 25.3/9.3)
    number    not known (the paper has it; its best is 75.5 linear, of which variant was not at hand)
    """
    return deepclusterv2("hexa_dcluster_r50_800", 800, _LATE)


def hexa_dcluster_r50_200_hvs() -> Recipe:
    """HEXA_DCluster on hard views (N=4), ResNet-50, 200 epochs.

    hardware  64 GPUs of 32 GB
    hours     60 (19 x 29.3/9.3)
    number    not known (nobody published it)
    """
    return deepclusterv2("hexa_dcluster_r50_200_hvs", 200, Chain(HardViews(4), _LATE))


def hexa_dcluster_r50_800_hvs() -> Recipe:
    """HEXA_DCluster on hard views (N=4), ResNet-50, 800 epochs.

    hardware  64 GPUs of 32 GB
    hours     236 (75 x 29.3/9.3)
    number    not known (nobody published it)
    """
    return deepclusterv2("hexa_dcluster_r50_800_hvs", 800, Chain(HardViews(4), _LATE))
