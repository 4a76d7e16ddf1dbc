"""The speed of a job in steps, measured by its coordinator."""

from collections import deque

WINDOW = 120.0
"""Seconds over which the speed is averaged."""


class Pace:
    """Records the furthest step; times are seconds of any clock that only moves forward."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._steps: deque[tuple[float, int]] = deque()  # time of the first report of a step, and the step

    def note(self, step: int | None, now: float) -> None:
        """Record the furthest step, None if none is known."""
        if step is not None and (not self._steps or step > self._steps[-1][1]):
            self._steps.append((now, step))
        while len(self._steps) > 1 and self._steps[1][0] <= now - self._window:
            self._steps.popleft()

    def idle(self, now: float) -> float | None:
        """Return the seconds since the first report of the furthest step, None if no step is known."""
        return now - self._steps[-1][0] if self._steps else None

    def per_second(self, now: float) -> float | None:
        """Return the mean number of steps per second, None if no step is known.

        The mean is over the window, or over the time since the first reported step. That step itself does not count:
        the job may have resumed at it.
        """
        self.note(None, now)
        if not self._steps:
            return None
        began, first = self._steps[0]
        seconds = min(now - began, self._window)
        return (self._steps[-1][1] - first) / seconds if seconds > 0 else 0.0
