"""The speed of a run, and its waits."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Samples and time since the last report."""

    def __init__(self) -> None:
        """Start the clock."""
        self._restart()

    def _restart(self) -> None:
        self.began = time.monotonic()
        self.samples = 0
        self.waited = 0.0
        self.saving = 0.0
        self.monitoring = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Count the time inside as spent on a checkpoint."""
        began = time.monotonic()
        yield
        self.saving += time.monotonic() - began

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count the time inside as spent on the monitor."""
        began = time.monotonic()
        yield
        self.monitoring += time.monotonic() - began

    @property
    def wait(self) -> float:
        """Return the share of time since the last report that was spent waiting for data."""
        return self.waited / max(time.monotonic() - self.began, 1e-9)

    def report(self) -> dict[str, float]:
        """Return images per second, and the shares of time for data, checkpoints and the monitor; start again."""
        elapsed = max(time.monotonic() - self.began, 1e-9)
        metrics = {
            "images_per_second": self.samples / elapsed,
            "data_wait": self.waited / elapsed,
            "checkpoint_stall": self.saving / elapsed,
            "monitor_stall": self.monitoring / elapsed,
        }
        self._restart()
        return metrics
