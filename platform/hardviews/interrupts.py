"""Requests to end a process: Ctrl-C and SIGTERM begin an end in order, which further ones do not cut.

The first request raises an exception. What follows runs to its end, within seconds. A further Ctrl-C is noted and says
so. One more gives up: the process ends at once, and an end that is under way says what it leaves behind.

Inside `answered_by` a function answers the first Ctrl-C: a training saves. The next one is the first request.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HURRY = 5.0
"""Seconds that an end still waits for anybody else after it was asked to hurry."""


class GivenUp(KeyboardInterrupt):
    """Ctrl-C was pressed once more while the process ended in order."""


class _Requests:
    """The requests of this process: signals belong to a process, so there is one such object."""

    def __init__(self) -> None:
        self.ends = 0  # blocks under way that are not to be cut
        self.answer: Callable[[], None] | None = None  # to the first Ctrl-C
        self.forget()

    def forget(self) -> None:
        """Begin without a request."""
        self.leaving = False  # an exception has begun the end
        self.seconds = 0.0  # that the innermost of them takes at most
        self.noted: float | None = None  # when an end was asked to hurry
        self.answered = False  # the first Ctrl-C, by a function
        self.pressed = False  # Ctrl-C, while the process ended
        self.given_up = False
        self.pending: BaseException | None = None  # to be raised after the end


_requests = _Requests()


@contextmanager
def listening() -> Iterator[None]:
    """Inside, only the first Ctrl-C interrupts, unless it has another meaning; outside, nothing of a request is left.

    Does nothing in a thread, and inside itself.
    """
    before = signal.getsignal(signal.SIGINT)
    if _in_thread() or before is _interrupt:
        yield
        return
    _requests.forget()
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)
        _requests.forget()


@contextmanager
def answered_by(act: Callable[[], None]) -> Iterator[None]:
    """Inside, the first Ctrl-C calls a function and interrupts nothing; the next one interrupts."""
    before, _requests.answer = _requests.answer, act
    try:
        yield
    finally:
        _requests.answer = before


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """Inside, the first SIGTERM ends the process by SystemExit, as an error would; later ones change nothing."""
    if _in_thread():
        yield
        return
    outermost = signal.getsignal(signal.SIGINT) is not _interrupt
    if outermost:
        _requests.forget()
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if outermost:
            _requests.forget()  # what this process does next is not in a hurry


@contextmanager
def ending(seconds: float) -> Iterator[None]:
    """Run a block that no request cuts, unless Ctrl-C is pressed again; then raise what was asked for meanwhile.

    seconds: that the block takes at most, for the message.

    Raises:
        GivenUp: at once if the process gives up already.
    """
    if _requests.given_up:
        raise GivenUp
    _requests.ends += 1
    _requests.seconds = seconds
    try:
        yield
    finally:
        _requests.ends -= 1
    if _requests.ends == 0 and _requests.pending is not None and not _requests.leaving:
        _requests.leaving = True
        raise _requests.pending


def hurry_until() -> float:
    """Return when an end stops to wait, in seconds of the monotonic clock: infinite until it is asked to hurry."""
    return math.inf if _requests.noted is None else _requests.noted + HURRY


def hurry() -> None:
    """Have an end that is under way stop to wait soon."""
    if _requests.ends and _requests.noted is None:
        _requests.noted = time.monotonic()


def terminate(number: int, frame: FrameType | None) -> None:
    """Handle SIGTERM: end the process by SystemExit, once."""
    if _requests.leaving:
        return
    if _requests.ends:
        _requests.pending = _requests.pending or SystemExit(128 + number)
        hurry()
        return
    _requests.leaving = True
    raise SystemExit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _requests.answer is not None and not _requests.leaving:
        act, _requests.answer = _requests.answer, None
        _requests.answered = True
        act()
        return
    if not (_requests.leaving or _requests.ends):
        _requests.leaving = True
        _requests.pressed = _requests.answered  # whoever presses for the third time wants no end in order
        raise KeyboardInterrupt
    if not _requests.pressed:
        _requests.pressed = True
        _requests.pending = _requests.pending or KeyboardInterrupt()
        hurry()
        bound = f", which takes at most {_requests.seconds:.0f} s" if _requests.ends else ""
        # Not by print, which may be at work in the code that this handler interrupts.
        os.write(2, f"\nhardviews: ending in order{bound}; press Ctrl-C again to give up\n".encode())
        return
    _requests.given_up = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise GivenUp


def _in_thread() -> bool:
    return threading.current_thread() is not threading.main_thread()
