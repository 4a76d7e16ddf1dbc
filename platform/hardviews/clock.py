"""The place of a step in its run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Where the run stands: everything that schedules and random draws may depend on.

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
        """Return the share of the run that lies behind, in [0, 1]."""
        return min(1.0, self.progress / max(1, self.total))
