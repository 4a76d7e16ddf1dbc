"""An announced end: SIGTERM, and Ctrl-C while steps are taken, set a flag, and all ranks stop at the same step."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hardviews.elastic.environment import launched
from hardviews.elastic.worker import EVICTED
from hardviews.interrupts import answered_by, hurry

_SAVING = b"\nhardviews: finishing the step, then saving; press Ctrl-C again to end at once, without a save\n"


class StopFlag:
    """Whether this process was asked to leave; the ranks agree on it with each step's losses.

    `pressed`: it was asked by Ctrl-C.
    """

    def __init__(self) -> None:
        self.raised = False
        self.pressed = False

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

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Inside, the first Ctrl-C raises the flag too; the next one interrupts.

        Outside there is nothing to save yet, or no more: the first one interrupts. In a process of an agent of ours
        Ctrl-C does nothing: the agent sends SIGTERM.
        """
        speaks = launched().rank == 0

        def act() -> None:
            self.raised = self.pressed = True
            if speaks:
                os.write(2, _SAVING)  # not by print, which may be at work in the code that the signal interrupts

        with answered_by(act):
            yield

    def departure(self) -> BaseException:
        """Return the exception that ends this process after the save: Ctrl-C ends it as everywhere."""
        return KeyboardInterrupt() if self.pressed else SystemExit(EVICTED)
