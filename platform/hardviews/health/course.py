"""The course of a run's metrics: each metric's values over samples seen, as the history holds them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A value of a metric, and the step of its measurement."""

    step: int
    value: float


class Course:
    """Metrics by name, in the order in which they were reported."""

    def __init__(self, rows: Iterable[Mapping[str, float]] = ()) -> None:
        """Take in reports, each with `step`, `samples` and metrics."""
        self._points: dict[str, list[Point]] = {}
        self.step = 0
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, float]) -> None:
        """Take in one report."""
        self.step = int(row["step"])
        for name, value in row.items():
            if name not in ("step", "samples"):
                self._points.setdefault(name, []).append(Point(self.step, float(value)))

    def of(self, name: str) -> list[Point]:
        """Return all values of a metric, empty if it was never reported."""
        return self._points.get(name, [])

    def last(self, name: str) -> Point | None:
        """Return the newest value of a metric, None if there is none."""
        points = self.of(name)
        return points[-1] if points else None

    def prefixed(self, *prefixes: str) -> dict[str, Point]:
        """Return the newest values of all metrics whose names begin so."""
        return {name: points[-1] for name, points in self._points.items() if name.startswith(prefixes)}
