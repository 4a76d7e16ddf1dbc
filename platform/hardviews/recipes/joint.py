"""Joint training: a self-supervised method and the labels of images, over one backbone.

command   hardviews pretrain NAME --data SHARDS --output RUN
data      class folders, packed by `hardviews pack`; images without a label train the self-supervised part alone
open      weight of the label's loss, here 1; rates and weight decay, here those of the self-supervised method alone
differs   as the base does: bfloat16 on a GPU (published: float32)

The base is the published recipe of the self-supervised method: its views, optimizer and schedule. The label's part
classifies the first of the same views, so it costs a linear layer, and no pass through the network. Nobody has
published these settings. Two simpler trainings with all labels come first, and a claim for joint training has to beat
both: 78.6 by labels and CutMix alone (`supervised_r50_300_cutmix`), and 78.6 by pretraining, then fine-tuning
(`finetune_hexa_r50_20`). Compare `--method.parts.1.weight 0`, which is the base, bit for bit.

SimCLR's crops are small (8 % and more) and can lose the object that the label names. `_hvs` chooses views by the
weighted sum of both losses; `--strategy.kinds 0` chooses by SimCLR's loss alone.

Hours come from the base.
"""

from dataclasses import replace

from hardviews.methods.joint import JointConfig, Part
from hardviews.methods.moco import MoCoConfig
from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.supervised import SupervisedConfig
from hardviews.recipes.digits import digits
from hardviews.recipes.hexa import hexa_moco_r50_200
from hardviews.recipes.simclr import simclr_r50_100, simclr_r50_100_hvs
from hardviews.train.recipe import Recipe, Training


def _with_labels(name: str, base: Recipe, classes: int = 1000, weight: float = 1.0) -> Recipe:
    """Return a recipe that adds a classifier of the first view of its method."""
    assert isinstance(base.method, SimCLRConfig | MoCoConfig)
    label = SupervisedConfig(classes=classes, view=base.method.view)
    return replace(base, name=name, method=JointConfig((Part(1.0, base.method), Part(weight, label))))


def joint_simclr_r50_100() -> Recipe:
    """SimCLR and labels, ResNet-50, 100 epochs.

    hardware  32 GPUs of 32 GB
    hours     10 (53/4 x 6/4 x 100/200)
    number    not known (nobody has published it)
    """
    return _with_labels("joint_simclr_r50_100", simclr_r50_100())


def joint_simclr_r50_100_hvs() -> Recipe:
    """SimCLR and labels on hard views (N=4), ResNet-50, 100 epochs.

    hardware  32 GPUs of 32 GB
    hours     17 (53/4 x 10/4 x 100/200)
    number    not known (nobody has published it)
    """
    return _with_labels("joint_simclr_r50_100_hvs", simclr_r50_100_hvs())


def joint_moco_hexa_r50_200() -> Recipe:
    """HEXA_MoCo and labels, ResNet-50, 200 epochs: queries are attacked and cut-mixed for both.

    hardware  8 GPUs of 32 GB
    hours     159 (53 x 12/4)
    number    not known (nobody has published it)
    open      as HEXA_MoCo's settings are, and the weight of the label's loss; here 1
    """
    return _with_labels("joint_moco_hexa_r50_200", hexa_moco_r50_200())


def digits_joint() -> Recipe:
    """SimCLR and labels on hard views (N=4) of digits, with a very small ResNet.

    data      hardviews pack --source digits (1,442 digits to train on)
    hardware  2 CPU cores
    time      1 minute
    expected  a classifier that is right on nearly all digits that it has not seen
    open      nothing
    differs   nothing
    """
    training = Training(epochs=10, batch=128, checkpoint_steps=50, log_steps=5)
    return replace(_with_labels("digits_joint", digits(), classes=10), training=training)
