"""What a training process owes its job: to die with its agent and to tell the coordinator the outcome."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hardviews.errors import UserError
from hardviews.launch.coordinator import announce_done, announce_failure

AGENT_VARIABLE = "HARDVIEWS_AGENT_PID"
"""Environment variable: process id of the agent that started this process."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_agent() -> None:
    """Has the kernel kill this process when its agent dies (Linux; elsewhere and without an agent, nothing).

    torchrun forwards the signals it can catch. One that is killed outright would leave a process behind that
    trains on and writes checkpoints beside its replacement.
    """
    agent = os.environ.get(AGENT_VARIABLE)
    if agent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(agent):  # it died before the line above
        os._exit(1)


@contextmanager
def supervised() -> Iterator[None]:
    """Runs the training of one process as a part of its job.

    Leaving the block normally means that training is complete: rank 0 announces it. A `UserError` ends the
    job on all nodes, since a restart would meet it again. Anything else that is raised (a lost peer, or
    `SystemExit` after a save on eviction) leaves the decision to torchrun.
    """
    die_with_agent()
    try:
        yield
    except UserError as error:
        announce_failure(str(error))
        raise
    if os.environ.get("RANK", "0") == "0":
        announce_done()
