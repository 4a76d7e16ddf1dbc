"""iBOT on ImageNet as published: Zhou et al., "Image BERT Pre-Training with Online Tokenizer" (ICLR 2022).

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  16 GPUs of 16 GB (published: 16)
open      nothing
differs   position embeddings are antialiased for small views, as in timm (published: they are not). The class token is
          drawn with a deviation of 1e-6, as in timm (published: 0.02). `vits16_100_hvs`: views alternate between both
          kinds (published: all but the first are of the second kind); docs/methods/ibot.md

Values come from bytedance/ibot: AdamW at 5e-4 for every 256 images after 10 epochs of warm-up, half a cosine by steps
to 1e-6, weight decay from 0.04 to 0.4, neither on biases and norms, each weight's gradient cut to 3, stochastic depth
of 0.1. `vits16_800` is the README's command: ten small views, one head for all tokens, half of the views masked by 10
to 50 %. `vits16_100` has the code's defaults: crops from 0.14 on, no small views, every view masked by 30 %. The
student has a last layer for the class token and one for patches, the teacher one for both. The `_hvs` recipes come from
the code that Ferreira et al. (ICLR 2025) released: views with their masks are chosen by both losses, the gradients of
all weights together are cut to 3.

Hours are estimated from DINO's README (1.75 days for 100 epochs on 8 V100), in proportion to the passes through the
network. A forward pass at 224 pixels counts 1, at 96 pixels 0.18, a backward pass twice that. DINO takes 12.2 a step,
iBOT 8 without small views and 13.3 with ten. A choice of views takes 6 more without small views and 9.5 more with 20,
since teacher outputs are used twice.
"""

from dataclasses import replace

from hardviews.methods.ibot import IBOTConfig
from hardviews.models.backbones import Backbone
from hardviews.recipes.dino import ADAMW, transformer_schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import dino_global1, dino_global2
from hardviews.views.masks import BlockMasks


def _ibot(name: str, epochs: int, method: IBOTConfig, batch: int, strategy: Strategy | None = None) -> Recipe:
    return Recipe(
        name,
        method,
        Backbone("vit_small_patch16_224", drop_path=0.1),
        strategy or Clean(),
        Training(epochs=epochs, batch=batch),
        ADAMW if strategy is None else replace(ADAMW, clip_per="all"),
        transformer_schedule(epochs),
    )


_DEFAULTS = IBOTConfig(
    norm_last_layer=True,
    shared_head=False,
    shared_head_teacher=True,
    teacher_temperature=0.04,
    warm_up=30,
    masks=BlockMasks(probability=1.0, share=(0.3, 0.3)),
    locals=0,
    even=dino_global1(scale=(0.14, 1.0)),
    odd=dino_global2(scale=(0.14, 1.0)),
)
_LONG = IBOTConfig(norm_last_layer=False)


def ibot_vits16_100() -> Recipe:
    """IBOT without small views, ViT-S/16, 100 epochs.

    hardware  8 GPUs of 16 GB
    hours     28 (42 x 8/12.2)
    number    not known (the released models are of 800 epochs)
    open      the batch, 128 for each of a number of GPUs that is not told: 512, as in the code for hard views
    """
    return _ibot("ibot_vits16_100", 100, _DEFAULTS, 512)


def ibot_vits16_800() -> Recipe:
    """iBOT, ViT-S/16, 800 epochs.

    hours     183 (42 x 13.3/12.2 x 800/100 on twice as many GPUs)
    number    77.9 linear (bytedance/ibot, README; k-NN 75.2)
    """
    return _ibot("ibot_vits16_800", 800, _LONG, 1024)


def ibot_vits16_100_hvs() -> Recipe:
    """IBOT on hard views (N=4) without small views, ViT-S/16, 100 epochs.

    hardware  8 GPUs of 16 GB
    hours     48 (42 x 14/12.2)
    number    not known (its table is not in the released code)
    open      the batch, 128 for each of 4 GPUs or 32 for each of 8: 512; masks and temperature of the class token: the
              code's defaults
    """
    return _ibot("ibot_vits16_100_hvs", 100, _DEFAULTS, 512, HardViews(4))


def ibot_vits16_800_hvs() -> Recipe:
    """IBOT on hard views (N=4, 20 small ones), ViT-S/16, 800 epochs.

    hardware  8 GPUs of 32 GB
    hours     628 (42 x 13.3/12.2 x 800/100 x 22.8/13.3)
    number    not known (rapanti/ibot has the settings and no result of such a run)
    """
    hard = HardViews(4, local_candidates=20, limit=128)
    return _ibot("ibot_vits16_800_hvs", 800, _LONG, 512, hard)
