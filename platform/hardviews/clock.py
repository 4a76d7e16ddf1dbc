"""The place of a step in its run: one number of samples, and a calendar that reads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """The place of a step in the run: everything that schedules and random draws may depend on.

    `step` counts optimizer steps and `progress` samples since the run began, `total` all samples the run will
    see.
    """

    seed: int
    epoch: int
    step: int
    progress: int
    total: int

    @property
    def fraction(self) -> float:
        """Return the finished share of the run, in [0, 1]."""
        return min(1.0, self.progress / max(1, self.total))

    def grown(self, weight: float, ramp: float, begin: int) -> float:
        """Return a weight that is 0 before the epoch `begin`, and grows from 0 over the first `ramp` of the run."""
        if self.epoch < begin:
            return 0.0
        return weight if self.fraction >= ramp else weight * self.fraction / ramp


@dataclass(frozen=True)
class Calendar:
    """Epochs and steps of a run: with it, the number of samples seen so far is the whole state of the data.

    `batch` samples make a step, `per_epoch` an epoch; an epoch is a whole number of steps.
    """

    seed: int
    batch: int
    per_epoch: int
    epochs: int

    @property
    def total(self) -> int:
        """Number of samples that the run will see."""
        return self.per_epoch * self.epochs

    def at(self, progress: int) -> Clock:
        """Return the clock of the step that begins after `progress` samples."""
        return Clock(self.seed, progress // self.per_epoch, self.step(progress), progress, self.total)

    def step(self, progress: int) -> int:
        """Return the number of steps that `progress` samples make."""
        return progress // self.batch

    def consumed(self, progress: int) -> int:
        """Return the number of these samples that belong to the present epoch."""
        return progress % self.per_epoch
