"""An announced end: SIGTERM or a Ctrl-C during the steps sets a flag, and all ranks stop at the same step."""

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
    """The request to leave; with the losses of each step the ranks agree on it.

    `raised`: this process was asked to leave. `pressed`: the request was Ctrl-C.
    """

    def __init__(self) -> None:
        self.raised = False
        self.pressed = False

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.raised = True
        hurry()

    @contextmanager
    def listening(self) -> Iterator["StopFlag"]:
        """Inside, SIGTERM raises the flag and does not end the process."""
        before = signal.signal(signal.SIGTERM, self._raise)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Inside, the first Ctrl-C also raises the flag; the next one interrupts.

        Outside there is nothing to save, so the first Ctrl-C interrupts. In a process of our agent Ctrl-C does nothing:
        the agent sends SIGTERM.
        """
        speaks = launched().rank == 0

        def act() -> None:
            self.raised = self.pressed = True
            if speaks:
                os.write(2, _SAVING)  # not by print, which may be at work in the code that the signal interrupts

        with answered_by(act):
            yield

    def departure(self) -> BaseException:
        """Return the exception that ends this process after the save: the usual one if the request was Ctrl-C."""
        return KeyboardInterrupt() if self.pressed else SystemExit(EVICTED)
