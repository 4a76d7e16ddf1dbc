"""Units in which the largest number of a row reads well."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """A unit, and its size in seconds or bytes."""

    name: str
    size: float

    def text(self, value: float) -> str:
        """Return a value, in seconds or bytes, as a number of this unit."""
        return f"{value / self.size:.3g}" if value < 1000 * self.size else f"{value / self.size:.0f}"


#: From large to small.
TIMES = (Unit("hours", 3600.0), Unit("minutes", 60.0), Unit("seconds", 1.0))
MEMORIES = (Unit("GiB", 2.0**30), Unit("MiB", 2.0**20), Unit("KiB", 2.0**10))


def unit_for(units: tuple[Unit, ...], values: Iterable[float]) -> Unit:
    """Return the largest of some units in which the largest value is at least 1, or else the smallest unit."""
    largest = max(values, default=units[0].size)
    return next((unit for unit in units if largest >= unit.size), units[-1])
