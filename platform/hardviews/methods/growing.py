"""Weights of a strategy's terms, or of a method in a sum, that begin late and grow."""

from hardviews.checked import at_least, require, within
from hardviews.clock import Clock


class Growing:
    """The common part of dataclasses with the fields `weight`, `ramp` and `begin`.

    The weight is 0 before the epoch `begin`. From there on it grows linearly over the share `ramp` of the run.
    """

    weight: float
    ramp: float
    begin: int

    def check(self, name: str) -> None:
        """Refuse invalid weights.

        Raises:
            UserError: a weight is refused; the message names the setting.
        """
        require(
            self,
            name,
            weight=at_least(0),
            ramp=within(0, 1).note("a share of the run"),
            begin=at_least(0).note("an epoch"),
        )

    @property
    def scheduled(self) -> bool:
        """Return whether the weight changes during the run."""
        return self.ramp > 0 or self.begin > 0

    def at(self, clock: Clock) -> float:
        """Return the weight at a place of the run."""
        return clock.grown(self.weight, self.ramp, self.begin)
