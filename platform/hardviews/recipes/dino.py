"""DINO on ImageNet as published: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (2021).

command   hardviews pretrain NAME --data SHARDS --output RUN
hardware  8 GPUs of 16 GB (published: 8 V100)
open      nothing
differs   position embeddings are antialiased for small views, as in timm (published: they are not). The class token is
          drawn with a deviation of 1e-6, as in timm (published: 0.02). bfloat16 on a GPU (published: fp16; `vits16_800`
          and `vitb16_400` float32). `_hvs` at 100 and 300 epochs: the gradient of the last layer does not count in the
          epoch in which it is frozen (published: it does); docs/methods/dino.md

Values come from facebookresearch/dino: AdamW after 10 epochs of warm-up, half a cosine by steps, weight decay from 0.04
to 0.4, neither on biases and norms, stochastic depth of 0.1. A ViT-S learns at 5e-4 for every 256 images. `vits16_100`
and `vits16_300` are the README's vanilla run: two views of 224 pixels and eight of 96, a teacher's temperature of 0.04,
each weight's gradient cut to 3, a last rate of 1e-6. `_boosted` is its run of 300 epochs with a teacher that warms up
to 0.07 in 30 epochs and a free last layer. `vits16_800` and `vitb16_400` are the arguments of the released models:
crops of 25 to 100 %, ten small views of 5 to 25 %, a teacher that warms up to 0.07. `vits16_800` has a free last layer
too, no gradient cut, and a last rate of 1e-5. `vitb16_400` learns at 7.5e-4 for every 256 images down to 2e-6, and cuts
each weight's gradient to 0.3. Its last layer does not change for 3 epochs (all others: 1), and its teacher warms up in
50.

The `_hvs` recipes come from automl/hvp (Ferreira et al., ICLR 2025): each full-size view is chosen among two of its
kind. With 100 and 300 epochs the gradients of all weights together are cut to 3, as in its code. With 800 epochs they
are not cut, and for the ViT-B each weight's gradient is cut to 0.3, as without hard views. At 800 epochs ten of 16
small views are chosen too, by 64 combinations a step.

Hours: the README's vanilla run took 1.75 days on 8 V100 (in half precision), the boosted one 2.6 days on 16. Other
    hours are in proportion to the passes through the network. A forward pass at 224 pixels counts 1, at 96 pixels 0.18,
    a backward pass twice that. A step takes 12.2 with eight small views and 13.3 with ten. A choice of views takes 7.4
    more with eight and 8.8 more with 16, since teacher outputs are used twice. A ViT-B is 3.8 times a ViT-S.
"""

from dataclasses import replace

from hardviews.methods.dino import DINOConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import dino_global1, dino_global2, dino_local

ADAMW = Optimizer("adamw", 5e-4, 256, weight_decay=0.04, decay_biases=False, clip=3.0, clip_per="weight")


def transformer_schedule(epochs: int, final: float = 1e-6) -> Schedule:
    """Return DINO's schedule, which iBOT shares."""
    return Schedule(warmup=10 / epochs, final=final, absolute=True, final_weight_decay=0.4)


def _dino(
    name: str,
    epochs: int,
    method: DINOConfig,
    batch: int = 512,
    optimizer: Optimizer = ADAMW,
    final: float = 1e-6,
    strategy: Strategy | None = None,
    network: str = "vit_small_patch16_224",
) -> Recipe:
    return Recipe(
        name,
        method,
        Backbone(network, drop_path=0.1),
        strategy or Clean(),
        Training(epochs=epochs, batch=batch),
        optimizer,
        transformer_schedule(epochs, final),
    )


_VANILLA = DINOConfig()
_BOOSTED = DINOConfig(norm_last_layer=False, teacher_temperature=0.07, warm_up=30)
# The arguments of the released models.
_RELEASED = replace(
    _BOOSTED,
    locals=10,
    even=dino_global1(scale=(0.25, 1.0)),
    odd=dino_global2(scale=(0.25, 1.0)),
    local=dino_local(scale=(0.05, 0.25)),
)
_BASE = replace(_RELEASED, norm_last_layer=True, warm_up=50, freeze=3)
_HVP = replace(ADAMW, clip_per="all")
_UNCUT = replace(ADAMW, clip=0.0)
_FOR_BASE = replace(ADAMW, learning_rate=7.5e-4, clip=0.3)


def dino_vits16_100() -> Recipe:
    """DINO, ViT-S/16, 100 epochs.

    hours     42 (published)
    number    73.8 linear (facebookresearch/dino, README; k-NN 69.3; 73.5 in automl/hvp)
    """
    return _dino("dino_vits16_100", 100, _VANILLA)


def dino_vits16_300() -> Recipe:
    """DINO, ViT-S/16, 300 epochs.

    hours     126 (42 x 300/100)
    number    75.25 linear (automl/hvp, the baseline of its runs)
    """
    return _dino("dino_vits16_300", 300, _VANILLA)


def dino_vits16_300_boosted() -> Recipe:
    """DINO with a warmer teacher, ViT-S/16, 300 epochs.

    hardware  16 GPUs of 16 GB (published: 16 V100)
    hours     62 (published)
    number    76.1 linear (facebookresearch/dino, README; k-NN 73.3)
    """
    return _dino("dino_vits16_300_boosted", 300, _BOOSTED, 1024)


def dino_vits16_800() -> Recipe:
    """DINO, ViT-S/16, 800 epochs.

    hardware  16 GPUs of 16 GB (published: 16 V100)
    hours     183 (42 x 13.3/12.2 x 800/100 on twice as many GPUs; published in float32, which takes longer)
    number    77.0 linear (facebookresearch/dino, README; k-NN 74.5)
    """
    return _dino("dino_vits16_800", 800, _RELEASED, 1024, _UNCUT, 1e-5)


def dino_vitb16_400() -> Recipe:
    """DINO, ViT-B/16, 400 epochs.

    hardware  32 GPUs of 32 GB (published: 32 V100)
    hours     174 (42 x 13.3/12.2 x 400/100 x 3.8 on four times as many GPUs; published in float32, which takes longer)
    number    78.2 linear (facebookresearch/dino, README; k-NN 76.1)
    """
    return _dino("dino_vitb16_400", 400, _BASE, 1024, _FOR_BASE, 2e-6, network="vit_base_patch16_224")


def dino_vits16_100_hvs() -> Recipe:
    """DINO on hard views (N=4), ViT-S/16, 100 epochs.

    hours     67 (42 x 19.6/12.2; published: about twice those without)
    number    74.67 linear (automl/hvp; 73.5 without)
    open      small views: eight of eight here; automl/hvp also has eight to ten of 16
    """
    return _dino("dino_vits16_100_hvs", 100, _VANILLA, optimizer=_HVP, strategy=HardViews(4))


def dino_vits16_300_hvs() -> Recipe:
    """DINO on hard views (N=4), ViT-S/16, 300 epochs.

    hours     202 (126 x 19.6/12.2)
    number    76.56 linear (automl/hvp; 75.25 without)
    open      small views: eight of eight here; automl/hvp also has eight to ten of 16
    """
    return _dino("dino_vits16_300_hvs", 300, _VANILLA, optimizer=_HVP, strategy=HardViews(4))


def dino_vits16_300_boosted_hvs() -> Recipe:
    """DINO with a warmer teacher on hard views (N=4), ViT-S/16, 300 epochs.

    hardware  16 GPUs of 16 GB
    hours     100 (62 x 19.6/12.2)
    number    not known (automl/hvp has results of the vanilla run alone)
    open      all but N and how gradients are cut: the values of DINO's boosted run
    """
    return _dino("dino_vits16_300_boosted_hvs", 300, _BOOSTED, 1024, _HVP, strategy=HardViews(4))


def dino_vits16_800_hvs() -> Recipe:
    """DINO on hard views (N=4, 16 small ones), ViT-S/16, 800 epochs.

    hardware  16 GPUs of 16 GB
    hours     304 (183 x 22.1/13.3)
    number    not known (automl/hvp has the settings and no result of such a run)
    """
    hard = HardViews(4, local_candidates=16, limit=64)
    return _dino("dino_vits16_800_hvs", 800, _RELEASED, 1024, _UNCUT, 1e-5, hard)


def dino_vitb16_400_hvs() -> Recipe:
    """DINO on hard views (N=4), ViT-B/16, 400 epochs.

    hardware  32 GPUs of 32 GB
    hours     271 (174 x 20.7/13.3)
    number    78.8 linear (Ferreira et al., abstract; 78.2 without)
    open      all but N and epochs: the values of DINO's own ViT-B/16
    """
    hard = HardViews(4)
    return _dino("dino_vitb16_400_hvs", 400, _BASE, 1024, _FOR_BASE, 2e-6, hard, "vit_base_patch16_224")
