"""Steps of a trainer on one batch in memory, so that no loader counts.

Shape legend: B samples, C columns of parameters.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hardviews.clock import Clock
from hardviews.data.counters import Counters
from hardviews.train.loader import RawBatch
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import StepReport, Trainer
from hardviews.views.plan import Plan, Slot
from hardviews.world import World

TOTAL = 10**6  # samples of the run that the schedule believes in


class Stepper:
    """Steps of the trainer of a recipe, on the same batch again and again."""

    def __init__(self, recipe: Recipe, batch: Callable[[Plan], RawBatch], device: torch.device, steps: int = 0) -> None:
        """Build the trainer. batch: makes the batch for its plan of views. steps: number of the first step."""
        self.recipe, self.steps = recipe, steps
        self.trainer = Trainer(recipe, World(0, 1, device))
        self.raw = batch(self.trainer.objective.plan)

    def step(self) -> StepReport:
        """Take a step."""
        progress = self.steps * self.recipe.training.batch
        clock = Clock(self.recipe.training.seed, 0, self.steps, progress, TOTAL)
        self.steps += 1
        return self.trainer.step([self.raw], clock, stop=False)


def raw_batch(rows: Mapping[Slot, Tensor], pixels: Mapping[Slot | None, Tensor]) -> RawBatch:
    """Return the first B samples of an epoch. rows: (B, C) by candidate. pixels: by candidate, or canvases by None."""
    batch = len(next(iter(rows.values())))
    place = torch.arange(batch)
    return RawBatch(batch, place, place, place, dict(rows), dict(pixels), Counters())
