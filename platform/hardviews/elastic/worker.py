"""The duties of a training process in its job: to report its progress, and to end when it must.

Nothing here has an effect in a process that was not started by our agent.
"""

import faulthandler
import json
import os
import re
import runpy
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from multiprocessing.connection import Connection

from hardviews.checked import at_least, number
from hardviews.elastic.guard import Guard
from hardviews.elastic.processes import end_with_parent
from hardviews.elastic.timeline import mark
from hardviews.errors import UserError

EVICTED = 75
"""Exit code (EX_TEMPFAIL): saved and left on request."""

MISTAKE = 2
"""Exit code: a mistake of the user, which a restart would meet again."""

ROUND_VARIABLE = "HARDVIEWS_ROUND"
"""Environment variable: the number of this round; a later life of the job has a higher one."""

REACHED_VARIABLE = "HARDVIEWS_REACHED"
"""Environment variable: the last step that any life of the job has reported."""

GRACE_VARIABLE = "HARDVIEWS_GRACE"
"""Environment variable: seconds for a process to save and leave after SIGTERM."""

STACKS = signal.SIGUSR2
"""Signal that makes a training process and its loader workers write the stacks of all their threads to stderr."""

_PEER_LOST = ("connection", "gloo", "peer", "socket", "timed out", "broken pipe", "store", "nccl")


class Phase(StrEnum):
    """Part of a training process's life with its own limit in the watchdog."""

    START = "start"  # before the first step
    STEP = "step"  # between two steps
    DATA = "data"  # waiting for a batch
    EPOCH = "epoch"  # a method reads all images before an epoch, or the monitor reads its own
    COMPILE = "compile"  # torch.compile makes a graph that is first needed in the middle of a run
    SAVE = "save"  # the last save
    END = "end"  # after it


class _Line:
    """The channel to the agent; several threads may use it."""

    def __init__(self, channel: Connection) -> None:
        self.guard = Guard(channel, self.beat)
        self.phase = Phase.START
        self.count = 0  # number of signs of progress
        self._channel = channel
        self._lock = threading.Lock()

    def say(self, **message: object) -> None:
        try:
            with self._lock:
                # If the agent is stopped for a moment, the steps must not wait for it; it will get a later report.
                if "step" in message and not select.select([], [self._channel], [], 0)[1]:
                    return
                self._channel.send_bytes(json.dumps(message).encode())
        except OSError:
            return  # the agent is gone, and the guard ends this process

    def beat(self) -> None:
        """Report that this process lives, and its phase; the guard calls this and must not wait."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if select.select([], [self._channel], [], 0)[1]:
                self._channel.send_bytes(json.dumps({"phase": self.phase, "count": self.count}).encode())
        except OSError:
            return
        finally:
            self._lock.release()


_line: _Line | None = None


def reached(step: int, batch: int | None = None) -> None:
    """Report to the coordinator that this life of the job has reached `step`.

    Args:
        step: number of steps.
        batch: samples of a step, over all processes; for the coordinator's metrics.
    """
    if _line:
        _line.phase = Phase.STEP
        _line.count += 1
        _line.say(step=step, **({} if batch is None else {"batch": batch}))


def advanced() -> None:
    """Note a sign of progress within a phase, for the watchdog."""
    if _line:
        _line.count += 1


@contextmanager
def doing(phase: Phase) -> Iterator[None]:
    """Report to the watchdog that the process is in this phase during the block."""
    if _line is None:
        yield
        return
    before, _line.phase = _line.phase, phase
    _line.count += 1
    try:
        yield
    finally:
        _line.phase = before
        _line.count += 1


def written() -> None:
    """Report that this process leaves and does not write to the run any more: others need not wait for its end."""
    if _line:
        _line.say(written=True)


def last_reached() -> int | None:
    """Return the furthest step that earlier lives of the job had reported when this one began."""
    text = os.environ.get(REACHED_VARIABLE)
    return int(number(REACHED_VARIABLE, text, at_least(0), "steps")) if text else None


def leaving() -> AbstractContextManager[None]:
    """Report that this process leaves in an orderly way and must not be killed when its peers go; call it once.

    It holds until the process ends, so the returned context only marks the block for a reader.
    """
    if _line:
        _line.guard.spare()
    return nullcontext()


@contextmanager
def supervised() -> Iterator[None]:
    """Run the training of one process as a part of its job.

    A normal end of the block means that training is complete; rank 0 decides. A `UserError` ends the job on all nodes,
    since a restart would meet it again. Any other exception, such as a lost peer or `SystemExit` after a save on
    eviction, leads to another round.
    """
    mark("imported")
    try:
        yield
    except UserError as error:
        if _line:
            _line.say(failing=str(error), user=True)
        raise
    except Exception as error:
        lost = lost_a_peer(error)
        mark("peer_lost" if lost else "worker_failed", error=type(error).__name__)
        if _line:
            _line.say(failing=_summary(error), peer=lost)
        raise


def lost_a_peer(error: BaseException) -> bool:
    """Return whether an error only means that another process is gone."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    distributed = torch.distributed
    if isinstance(error, distributed.DistError):
        return True
    # gloo's errors, also inside DDP, are RuntimeErrors that differ only in their words.
    text = str(error).lower()
    return type(error) is RuntimeError and any(word in text for word in _PEER_LOST)


def run_worker(
    channel: Connection,
    variables: Mapping[str, str],
    outputs: tuple[Connection, ...],
    module: str,
    words: Sequence[str],
) -> None:
    """Run `python -m module words...` in this process, which an agent has forked from a prepared one.

    Args:
        channel: channel to the agent.
        variables: environment variables, as torchrun sets them.
        outputs: descriptors for stdout and stderr, if they differ from the agent's.
        module: module with a `__main__` part.
        words: its arguments.
    """
    global _line
    # Its parent, the process that it was forked from, ends with the agent. The guard cannot end a stopped process.
    end_with_parent()
    os.environ.update(variables)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the launcher of the job, which stops this process
    for descriptor, output in enumerate(outputs, start=1):
        os.dup2(output.fileno(), descriptor)
    faulthandler.register(STACKS, file=2, all_threads=True)
    _line = _Line(channel)
    _line.guard.start()
    sys.argv = [module, *words]
    sys.modules.pop(module, None)  # it was loaded before the fork; runpy would warn about it
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception as error:
        _line.say(failing=_summary(error), peer=lost_a_peer(error))
        if lost_a_peer(error):
            print(f"rank {os.environ['RANK']} lost a peer: {_summary(error)}", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
        raise SystemExit(1) from None


def _summary(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    # gloo begins with the place in its source and ends with general advice.
    first = re.sub(r"^\[\S+:\d+\] ", "", first).partition(" This is typically")[0]
    return f"{type(error).__name__}: {first}"[:1000]
