"""The learning rate as a function of samples seen, so that it does not depend on the world size."""

import math
from dataclasses import dataclass

import torch

from hardviews.batch import Clock
from hardviews.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up followed by half a cosine (Loshchilov & Hutter 2017, equation 5).

    Attributes:
        warmup: share of the run.
        final: learning rate at the end, as a share of the peak.
    """

    warmup: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        if not 0 <= self.warmup < 1 or not 0 <= self.final <= 1:
            raise UserError(
                f"Schedule has warmup={self.warmup} and final={self.final}; both are shares between 0 and 1 "
                "(a warm-up of 10 epochs in a run of 100 is 0.1)."
            )

    def factor(self, clock: Clock) -> float:
        """Return the share of the peak learning rate at a point of the run."""
        done = clock.progress / max(1, clock.total)
        if done < self.warmup:
            return done / self.warmup
        cosine = 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup)))
        return self.final + (1 - self.final) * cosine

    def apply(self, optimizer: torch.optim.Optimizer, peak: float, clock: Clock) -> float:
        """Set the learning rate of every group that is not fixed, and return it."""
        rate = peak * self.factor(clock)
        for group in optimizer.param_groups:
            group["lr"] = peak if group["fixed"] else rate
        return rate
