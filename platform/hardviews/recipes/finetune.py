"""Fine-tuning on all or some labels of ImageNet: supervised training that begins from a pretrained encoder.

command   hardviews finetune RUN --recipe NAME --data SHARDS --labels 10% --output TUNED
data      class folders, packed by `hardviews pack`; SimCLR's lists by `--labels simclr-1%` and `simclr-10%`
hardware  8 GPUs of 16 GB
open      nothing
differs   bfloat16 on a GPU (published: float32); BatchNorm over the whole batch

A recipe names the publication, the network and the epochs. Its learning rates are those of that publication for its
own encoder: `--sweep` chooses those of another one on held-out labels.

`simclr` is Chen et al. 2020, appendix B.5: Nesterov's SGD at 0.05 for every 256 images, a batch of 4096, no warm-up,
no weight decay, 60 epochs for 1 % of the labels and 30 for 10 %. `swav` is facebookresearch/swav, eval_semisup.py: a
batch of 256, 20 epochs, a fifth of the rates from the epochs 12 and 16 on, no weight decay. `byol` is Grill et al.
2020, appendix C: a batch of 1024, no weight decay. `hexa` has the 20 epochs of Li et al. (arXiv 2012.13493).

Hours are estimated from MoCo-v2's 53 for 200 epochs on 8 V100 (its README), in proportion to the passes through the
network (3 for its 4), the epochs and the share of the labels. Minutes are 60 times as many. Hours of the ViT-S/16 are
those of DINO in the same way (42 for 100 epochs, with 12.2 passes).
"""

from dataclasses import replace

from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.recipes.digits import digits_supervised
from hardviews.recipes.photos import photos_supervised
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training


def _recipe(
    name: str,
    epochs: int,
    batch: int,
    optimizer: Optimizer,
    schedule: Schedule,
    backbone: Backbone | None = None,
    method: SupervisedConfig | None = None,
    strategy: Strategy | None = None,
) -> Recipe:
    return Recipe(
        name,
        method or SupervisedConfig(),
        backbone or Backbone("resnet50"),
        strategy or Clean(),
        Training(epochs=epochs, batch=batch),
        optimizer,
        schedule,
    )


def _simclr(name: str, epochs: int) -> Recipe:
    return _recipe(name, epochs, 4096, Optimizer("sgd", 0.05, 256, weight_decay=0.0), Schedule())


def _swav(name: str, trunk: float, head: float) -> Recipe:
    optimizer = Optimizer("momentum", trunk, 0, weight_decay=0.0, head_rate=head / trunk)
    return _recipe(name, 20, 256, optimizer, Schedule(per="epoch", drops=(0.6, 0.8), factor=0.2))


def finetune_simclr_r50_60() -> Recipe:
    """SimCLR's fine-tuning of a ResNet-50 on 1 % of the labels, 60 epochs.

    time      7 minutes (60 x 53 x 3/4 x 60/200 x 1/100)
    number    48.3 finetuned (Chen et al. 2020, table 7, 1 % of the labels)
    """
    return _simclr("finetune_simclr_r50_60", 60)


def finetune_simclr_r50_30() -> Recipe:
    """SimCLR's fine-tuning of a ResNet-50 on 10 % of the labels, 30 epochs.

    time      36 minutes (60 x 53 x 3/4 x 30/200 x 10/100)
    number    65.6 finetuned (Chen et al. 2020, table 7, 10 % of the labels)
    """
    return _simclr("finetune_simclr_r50_30", 30)


def finetune_swav_r50_20_1pct() -> Recipe:
    """SwAV's fine-tuning of a ResNet-50 on 1 % of the labels, 20 epochs.

    time      2 minutes (60 x 53 x 3/4 x 20/200 x 1/100)
    number    53.9 finetuned (Caron et al. 2020, table 2, 1 % of the labels)
    """
    return _swav("finetune_swav_r50_20_1pct", 0.02, 5.0)


def finetune_swav_r50_20_10pct() -> Recipe:
    """SwAV's fine-tuning of a ResNet-50 on 10 % of the labels, 20 epochs.

    time      24 minutes (60 x 53 x 3/4 x 20/200 x 10/100)
    number    70.2 finetuned (Caron et al. 2020, table 2, 10 % of the labels)
    """
    return _swav("finetune_swav_r50_20_10pct", 0.01, 0.2)


def finetune_byol_r50_50() -> Recipe:
    """BYOL's fine-tuning of a ResNet-50, 50 epochs.

    hours     1 (53 x 3/4 x 50/200 x 10/100)
    number    68.8 finetuned (Grill et al. 2020, table 2, 10 % of the labels; 53.2 with 1 %)
    open      the rate, chosen among 0.005, 0.01, 0.02, 0.05 and 0.1 on a part of the training images; here 0.02
    """
    return _recipe("finetune_byol_r50_50", 50, 1024, Optimizer("sgd", 0.02, 0, weight_decay=0.0), Schedule())


def finetune_hexa_r50_20() -> Recipe:
    """HEXA's fine-tuning of a ResNet-50, 20 epochs.

    time      24 minutes (60 x 53 x 3/4 x 20/200 x 10/100)
    number    71.8 finetuned (Li et al. 2020, 10 % of the labels; 57.3 with 1 %, 78.6 with all)
    open      all but the epochs; here SwAV's settings for 10 % of the labels
    """
    return replace(finetune_swav_r50_20_10pct(), name="finetune_hexa_r50_20")


def _transformer(name: str, epochs: int, optimizer: Optimizer, warmup: float, network: str) -> Recipe:
    return _recipe(
        name,
        epochs,
        1024,
        replace(optimizer, name="adamw", weight_decay=0.05, decay_biases=False),
        Schedule(warmup=warmup, final=1e-6, absolute=True),
        Backbone(network, drop_path=0.1),
        SupervisedConfig(smoothing=0.1),
        InTurn(MixUp(alpha=0.8), CutMix(alpha=1.0)),
    )


def finetune_dino_vits16_200() -> Recipe:
    """Fine-tuning of a ViT-S/16 of DINO or iBOT, 200 epochs, whose rates decay by layers.

    hours     21 (42 x 3/12.2 x 200/100)
    number    82.3 finetuned (Zhou et al. 2022, all labels, pretrained by iBOT)
    open      the rate, which was swept; here 0.001. --sweep chooses it on held-out labels
    differs   no RandAugment, no random erasing; MixUp and CutMix in alternate steps (published: by chance)
    """
    rates = Optimizer(learning_rate=1e-3, reference_batch=0, layer_decay=0.75)
    return _transformer("finetune_dino_vits16_200", 200, rates, 20 / 200, "vit_small_patch16_224")


def finetune_mae_vitb16_100() -> Recipe:
    """MAE's fine-tuning of a ViT-B/16, 100 epochs, whose rates decay by layers.

    hours     76 (53 x 3/4 x 100/200 x 4.6/4.1 x 3.4)
    number    83.6 finetuned (He et al. 2022, table 3, all labels, pretrained by MAE)
    differs   no RandAugment, no random erasing; MixUp and CutMix in alternate steps (published: by chance)
    """
    rates = Optimizer(learning_rate=5e-4, reference_batch=256, layer_decay=0.65)
    return _transformer("finetune_mae_vitb16_100", 100, rates, 0.05, "vit_base_patch16_224")


def digits_finetune() -> Recipe:
    """Fine-tuning of a very small ResNet on some labels of digits.

    command   hardviews finetune RUN --recipe digits_finetune --data SHARDS --labels 10% --output TUNED
    data      hardviews pack --source digits
    hardware  2 CPU cores
    time      1 minute
    expected  `python benchmarks/finetuning.py` compares it with a linear classifier on the frozen encoder
    """
    return _small(digits_supervised(), "digits_finetune")


def photos_finetune() -> Recipe:
    """Fine-tuning of a small ResNet on some labels of photographs, on plain crops of 64 pixels.

    command   hardviews finetune RUN --recipe photos_finetune --data SHARDS --labels 10% --output TUNED
    data      class folders, packed by `hardviews pack`
    hardware  2 CPU cores
    time      some minutes for 1,000 images
    expected  depends on the images; `hardviews classify` shows it, `hardviews linear` on the same labels is the control
    open      the rates, which are those of digits: --sweep chooses others on held-out labels
    """
    return replace(_small(photos_supervised(), "photos_finetune"), strategy=Clean())


def _small(supervised: Recipe, name: str) -> Recipe:
    training = replace(supervised.training, epochs=50, batch=32, group=8)
    optimizer = Optimizer("sgd", 0.02, 0, weight_decay=0.0)
    return replace(supervised, name=name, training=training, optimizer=optimizer, schedule=Schedule())
