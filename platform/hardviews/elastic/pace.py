"""How fast a job takes steps, as its coordinator sees it."""

from collections import deque

WINDOW = 120.0
"""Seconds over which the speed is averaged."""


class Pace:
    """Takes note of the furthest step. Times are seconds of any clock that only moves forward."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._steps: deque[tuple[float, int]] = deque()  # when a step was seen first, and which

    def note(self, step: int | None, now: float) -> None:
        """Take note of the furthest step, None if none is known."""
        if step is not None and (not self._steps or step > self._steps[-1][1]):
            self._steps.append((now, step))
        while len(self._steps) > 1 and self._steps[1][0] <= now - self._window:
            self._steps.popleft()

    def idle(self, now: float) -> float | None:
        """Return the seconds since the furthest step was seen first, None if no step is known."""
        return now - self._steps[-1][0] if self._steps else None

    def per_second(self, now: float) -> float | None:
        """Return the mean number of steps per second, None if no step is known.

        The mean is over the window, or over the time since the first step that was seen. That step counts for nothing:
        it may be the one at which the job continued.
        """
        self.note(None, now)
        if not self._steps:
            return None
        began, first = self._steps[0]
        seconds = min(now - began, self._window)
        return (self._steps[-1][1] - first) / seconds if seconds > 0 else 0.0
