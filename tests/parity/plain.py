"""Methods without a network: a picture's pixels are its embedding, so that losses are compared by themselves."""

import torch
from torch import Tensor, nn

from hardviews.batch import Batch, Samples, View
from hardviews.clock import Clock
from hardviews.methods.method import Method, MethodConfig
from hardviews.objective.objective import Objective
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import Normalisation
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot

SIDE = 4
WIDTH = 3 * SIDE * SIDE


def without_network(config: MethodConfig, strategy: Strategy | None = None) -> Objective:
    """Build the method with pixels in place of projections."""
    method: Method = config.build(nn.Flatten(), WIDTH)
    method.projector = nn.Identity()
    return Objective(method, strategy or Clean()).train()


def pictures(samples: int, seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Draw two views of each sample, leaves that take a gradient: (B, 3, SIDE, SIDE) each."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, samples, 3, SIDE, SIDE, generator=generator) * scale
    return first.requires_grad_(), second.requires_grad_()


def batch_of(pixels: tuple[Tensor, Tensor], group: int = 4, pools: tuple[str, str] | None = None) -> Batch:
    """Return a batch of two views: of one pool, or the first view of each of two."""
    normalisation = Normalisation()
    views = {}
    for number, tensor in enumerate(pixels):
        slot = Slot(pools[number], 0) if pools else Slot("view", number)
        views[slot] = View(slot, Crops(tensor, normalisation), normalisation)
    position = torch.arange(len(pixels[0]))
    return Batch(views, Clock(0, 0, 0, 0, 1), Samples(position, position), group=group)
