"""Learning rate and weight decay as functions of samples seen, so that they do not depend on the world size."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from hardviews.checked import added, at_least, each, require, within
from hardviews.clock import Clock
from hardviews.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up followed by half a cosine (Loshchilov & Hutter 2017, equation 5), or by sudden drops.

    Attributes:
        warmup: share of the run.
        start: learning rate at the beginning of a warm-up, as a share of the peak.
        final: learning rate at the end, as a share of the peak.
        absolute: read `start` and `final` as learning rates, not as shares of the peak.
        per: change the learning rate at every step, or stay for an epoch at the rate of its first step (MoCo, SimSiam).
        final_weight_decay: at the end of the run, along half a cosine from the optimizer's, without a warm-up (DINO);
            None keeps it.
        drops: shares of the run, the smallest first, after each of which the learning rate is multiplied by `factor`;
            it then has no cosine. None for the cosine.
        factor: see `drops`.
    """

    warmup: float = 0.0
    start: float = 0.0
    final: float = 0.0
    absolute: bool = False
    per: Literal["step", "epoch"] = "step"
    final_weight_decay: float | None = None
    drops: tuple[float, ...] | None = added(None)
    factor: float = added(0.1)

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        height = at_least(0) if self.absolute else within(0, 1).note("a share of the peak, unless absolute=True")
        require(
            self,
            "schedule",
            warmup=at_least(0, below=1).note("a share of the run: 10 epochs of 100 are 0.1"),
            start=height,
            final=height,
            final_weight_decay=at_least(0).or_none(),
            drops=each(within(0, 1)).note("shares of the run: epoch 30 of 90 is 0.333").or_none(),
            factor=within(0, 1),
        )
        if self.drops is not None and (list(self.drops) != sorted(self.drops) or self.final):
            raise UserError(
                f"schedule.drops={self.drops} must rise, and the last of them leaves the final learning rate: leave "
                "schedule.final out."
            )

    def rate(self, peak: float, clock: Clock, epochs: int) -> float:
        """Return the learning rate at a point of a run of that many epochs."""
        done = clock.epoch / epochs if self.per == "epoch" else _done(clock)
        unit = 1.0 if self.absolute else peak
        if done < self.warmup:
            return self.start * unit + (peak - self.start * unit) * (done / self.warmup)
        if self.drops is not None:
            return peak * self.factor ** sum(done >= drop for drop in self.drops)
        return self.final * unit + (peak - self.final * unit) * _falling((done - self.warmup) / (1 - self.warmup))

    def weight_decay(self, first: float, clock: Clock) -> float:
        """Return the weight decay at a point of the run, for weights that are decayed by `first` at its beginning."""
        if self.final_weight_decay is None:
            return first
        return self.final_weight_decay + (first - self.final_weight_decay) * _falling(_done(clock))

    def apply(self, optimizer: torch.optim.Optimizer, peak: float, clock: Clock, epochs: int) -> float:
        """Set the learning rate of every group that is not fixed, and return it.

        The weight decay of all groups with decay is set too.
        """
        rate = self.rate(peak, clock, epochs)
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * (peak if group["fixed"] else rate)
            if self.final_weight_decay is not None and group["decay"]:
                group["weight_decay"] = self.weight_decay(group["decay"], clock)
        return rate


def _done(clock: Clock) -> float:
    return clock.progress / max(1, clock.total)


def _falling(done: float) -> float:
    """Return half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * done))
