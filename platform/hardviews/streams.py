"""Standard output and error that accept any text, with any locale and any reader."""

import os
import select
import sys
from contextlib import suppress


def prepare() -> None:
    """Make both streams accept every text; each entry point of the package calls this first.

    A character that the stream's encoding lacks is written as an escape, because names of files may hold any byte. A
    descriptor that was closed (`>&-`) is replaced by the null device, so that no file gets its number.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):  # a notebook's streams have no encoding
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def reader_left() -> bool:
    """Return whether nobody reads our output or our messages any more, for example after `| head`."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def abandon(*names: str) -> None:
    """Write nothing more to these streams: Python would try once again when it ends, and report that it failed."""
    null = os.open(os.devnull, os.O_WRONLY)
    for name in names:
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(null, getattr(sys, name).fileno())
