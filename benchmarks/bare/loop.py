"""A training loop as one would write it by hand in plain torch: no strategies, no shards, no ranks.

It begins with the weights of a trainer of ours and sees the same views (uint8, in memory).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hardviews.clock import Clock
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import Trainer
from stepping.stepper import TOTAL

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Loop(ABC):
    """A step by hand: views to floats, one loss, one optimizer.

    views: uint8 (B, 3, H, W), each. ours: the trainer of the same recipe, whose weights are copied.
    """

    model: nn.Module

    def __init__(self, recipe: Recipe, views: list[Tensor], ours: Trainer) -> None:
        self.recipe, self.views, self.device = recipe, views, ours.world.device
        self.model = self.build(recipe)
        self.model.load_state_dict(ours.objective.method.state_dict(), strict=False)
        self.model.train().to(self.device, memory_format=torch.channels_last)
        self.peak = recipe.optimizer.peak(recipe.training.batch)
        self.optimizer = self.make_optimizer()
        self.mean = torch.tensor(MEAN, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=self.device).view(1, 3, 1, 1)
        self.steps = 0

    @abstractmethod
    def build(self, recipe: Recipe) -> nn.Module:
        """Build networks whose weights have the names of ours."""

    @abstractmethod
    def loss(self, views: list[Tensor]) -> Tensor:
        """Return the loss of normalised views."""

    def after(self) -> None:
        """Update state after the optimizer's step."""
        self.steps += 1

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return SGD with momentum over all weights."""
        told = self.recipe.optimizer
        return torch.optim.SGD(
            self.trained(), lr=self.peak, momentum=told.momentum, weight_decay=told.weight_decay, nesterov=True
        )

    def trained(self) -> Iterable[nn.Parameter]:
        """Return the weights that take a gradient."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def floats(self, view: Tensor) -> Tensor:
        """Return a view as the network reads it."""
        normal = (view.to(self.device).float() / 255 - self.mean) / self.std
        return normal.to(memory_format=torch.channels_last)

    def step(self) -> float:
        """Train on the views and return the loss."""
        clock = Clock(0, 0, self.steps, self.steps * self.recipe.training.batch, TOTAL)
        for group in self.optimizer.param_groups:
            if not group.get("fixed"):
                group["lr"] = self.recipe.schedule.rate(self.peak, clock, epochs=1)
        loss = self.loss([self.floats(view) for view in self.views])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.after()
        return loss.item()


@torch.no_grad()
def follow(average: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move a moving average of weights towards those that are trained."""
    for mean, weight in zip(average.parameters(), online.parameters(), strict=True):
        mean.mul_(momentum).add_(weight, alpha=1 - momentum)
