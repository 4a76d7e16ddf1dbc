"""Runs a function in a forked process: a crash, an error that spoils CUDA or a hang costs that process alone.

The parent must not have used CUDA: its CUDA context does not survive the fork.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TypeVar

from hardviews.elastic.processes import end_with_parent

T = TypeVar("T")


class Broken(Exception):
    """The error of the process, in a line; `details` is its traceback, if it had one."""

    def __init__(self, line: str, details: str = "") -> None:
        super().__init__(line)
        self.details = details


def apart(work: Callable[[], Iterable[T]], seconds: float) -> Iterator[T]:
    """Run the work in a process of its own and yield its results at once.

    Raises:
        Broken: the work raised, the process died, or it took longer than `seconds` and was stopped.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, theirs))
    process.start()
    theirs.close()
    until = time.monotonic() + seconds
    try:
        while True:
            if not ours.poll(max(0.0, until - time.monotonic())):
                raise Broken(f"stopped after {seconds:.0f} s")
            try:
                kind, content = ours.recv()
            except EOFError:
                process.join(10)
                raise Broken(f"its process ended with exit code {process.exitcode}") from None
            if kind == "raised":
                raise Broken(*content)
            if kind == "done":
                return
            yield content
    finally:
        # Its group: a compiler's or a loader's processes end with it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()
        ours.close()


def together(work: Callable[[], Iterable[T]], seconds: float) -> Iterator[T]:
    """Run the work in this process and yield its results: nothing stops it.

    Raises:
        Broken: the work raised.
    """
    try:
        yield from work()
    except Exception as error:
        raise Broken(in_a_line(error), traceback.format_exc()) from error


def _child(work: Callable[[], Iterable[T]], out: Connection) -> None:
    os.setsid()
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends this
    try:
        for item in work():
            out.send(("item", item))
    except BaseException as error:
        out.send(("raised", (in_a_line(error), traceback.format_exc())))
    else:
        out.send(("done", None))


def in_a_line(error: BaseException) -> str:
    """Return an exception as one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
