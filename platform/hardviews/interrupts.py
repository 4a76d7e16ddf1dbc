"""Requests to end a process: Ctrl-C and SIGTERM begin an orderly end, which the next request does not interrupt.

The first request raises an exception. The orderly end then runs to completion, within seconds. The next Ctrl-C only
prints a message. One more gives up: the process ends at once, and the interrupted end reports unfinished work.

Inside `answered_by` a function answers the first Ctrl-C: a training saves. The next Ctrl-C is then the first request.
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
"""Seconds that an orderly end still waits for others after a request to hurry."""


class GivenUp(KeyboardInterrupt):
    """Ctrl-C was pressed once more during the orderly end."""


class _Requests:
    """The requests of this process: signals belong to a process, so there is one such object."""

    def __init__(self) -> None:
        self.ends = 0  # number of running blocks that must not be cut
        self.answer: Callable[[], None] | None = None  # answers the first Ctrl-C
        self.forget()

    def forget(self) -> None:
        """Begin without a request."""
        self.leaving = False  # an exception has begun the orderly end
        self.seconds = 0.0  # longest duration of the innermost block
        self.noted: float | None = None  # time of the request to hurry
        self.answered = False  # a function has answered the first Ctrl-C
        self.pressed = False  # Ctrl-C was pressed during the orderly end
        self.given_up = False
        self.pending: BaseException | None = None  # to be raised after the end


_requests = _Requests()


@contextmanager
def listening() -> Iterator[None]:
    """Let only the first Ctrl-C interrupt the block, unless it has another meaning; forget requests after the block.

    Nothing is changed in a thread, or if this context is active already.
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
    """Let the first SIGTERM in the block end the process by SystemExit, like an error; later ones have no effect."""
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
            _requests.forget()  # later work of this process need not hurry


@contextmanager
def ending(seconds: float) -> Iterator[None]:
    """Run a block that no request cuts, unless Ctrl-C is pressed again; then raise the request that came meanwhile.

    `seconds` is the longest duration of the block, for the message.

    Raises:
        GivenUp: at once, if the process gives up already.
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
    """Return the time at which an end stops to wait, by the monotonic clock: infinite before a request to hurry."""
    return math.inf if _requests.noted is None else _requests.noted + HURRY


def hurry() -> None:
    """Ask a running orderly end to stop its waits soon."""
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
        _requests.pressed = _requests.answered  # a third Ctrl-C gives up the orderly end
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
