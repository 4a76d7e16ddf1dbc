"""Signs of a process of `hardviews launch` to the launcher: its progress since it was started.

The launcher restarts processes that die. The signs distinguish a process that is killed now and then from one that can
never work.
"""

import contextlib
import os
from enum import Enum

VARIABLE = "HARDVIEWS_SIGNS"
"""Environment variable: the descriptor of a pipe to the launcher."""


class Sign(Enum):
    """The progress of a process."""

    JOINED = b"j"  # the coordinator listens, or has answered this agent
    STEPPED = b"s"  # a step of the training was taken


_given: set[Sign] = set()


def give(sign: Sign) -> None:
    """Give a sign, once; without a launcher this does nothing."""
    target = os.environ.get(VARIABLE, "")
    if sign in _given or not target.isdecimal():
        return
    _given.add(sign)
    with contextlib.suppress(OSError):  # the launcher is gone, which the agent notices by itself
        os.write(int(target), sign.value)
