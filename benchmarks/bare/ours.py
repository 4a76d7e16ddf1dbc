"""A step of the trainer on views in memory, and the small recipes that are compared."""

from dataclasses import replace

import torch
from torch import Tensor

from hardviews.methods.dino import DINOConfig
from hardviews.methods.method import MethodConfig
from hardviews.methods.moco import MoCoConfig
from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import dino_global1, dino_global2, dino_local, mocov2, simclr, supervised
from hardviews.views.plan import Slot
from stepping.stepper import Stepper, raw_batch


def recipe(method: str, batch: int, size: int, device: str, strategy: Strategy | None = None) -> Recipe:
    """Return a method as published, but for a smaller network, smaller views and smaller tables of outputs."""
    network, optimizer = Backbone("resnet18"), Optimizer()
    config: MethodConfig
    if method == "simsiam":
        config = SimSiamConfig(view=mocov2(size))
    elif method == "simclr":
        config = SimCLRConfig(view=simclr(size))
    elif method == "supervised":
        config = SupervisedConfig(classes=100, view=supervised(size))
    elif method == "moco":
        config = MoCoConfig(queue=64 * batch, view=mocov2(size))
    else:
        config = DINOConfig(
            outputs=4096,
            freeze=0,
            locals=4,
            even=replace(dino_global1(), size=size),
            odd=replace(dino_global2(), size=size),
            local=replace(dino_local(), size=size // 2),
        )
        network = Backbone("vit_tiny_patch16_224", image_size=size, patch_size=8)
        optimizer = Optimizer("adamw", 5e-4, 256, weight_decay=0.04, decay_biases=False)
    return Recipe(
        method,
        config,
        network,
        strategy or Clean(),
        Training(batch=batch, group=batch),
        optimizer=optimizer,
        precision=Precision(device, "float32"),
    )


def views_of(config: Recipe) -> dict[Slot, Tensor]:
    """Return random views (uint8) for all candidates of a recipe; those of one number are the same in all recipes."""
    batch, method = config.training.batch, config.method
    plan = config.strategy.plan(method.build(config.backbone.build(), config.backbone.num_features).plan())
    views = {}
    for slot in plan.candidates:
        seed = torch.Generator().manual_seed(1000 * plan.pools.index(plan.pool(slot.pool)) + slot.number)
        size = plan.pool(slot.pool).augmentation.size
        views[slot] = torch.randint(0, 256, (batch, 3, size, size), generator=seed).byte()
    return views


class Ours:
    """A step of the trainer."""

    def __init__(self, config: Recipe, views: dict[Slot, Tensor]) -> None:
        """Build the trainer. views: by candidate, uint8 (B, 3, H, W)."""
        batch = config.training.batch
        raw = raw_batch(dict.fromkeys(views, torch.zeros(batch, 1)), views)
        if isinstance(config.method, SupervisedConfig):
            raw = replace(raw, labels=raw.index % config.method.classes)
        self._stepper = Stepper(config, lambda plan: raw, config.precision.choose_device(0))
        self.trainer = self._stepper.trainer

    def step(self) -> float:
        """Train on the views and return the loss."""
        return self._stepper.step().loss
