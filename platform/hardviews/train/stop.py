"""An announced end: SIGTERM sets a flag, and all ranks stop at the same step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hardviews.interrupts import hurry


class StopFlag:
    """Whether this process was asked to leave; the ranks agree on it with each step's losses."""

    def __init__(self) -> None:
        self.raised = False

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.raised = True
        hurry()

    @contextmanager
    def listening(self) -> Iterator["StopFlag"]:
        """Let SIGTERM raise the flag instead of ending the process, inside."""
        before = signal.signal(signal.SIGTERM, self._raise)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)
