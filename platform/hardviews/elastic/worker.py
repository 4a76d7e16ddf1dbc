"""What a training process owes its job: to say how it goes, and to end when it must.

All of it does nothing in a process that no agent of ours has started.
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
"""Exit code: a mistake of the user; a restart would meet it again."""

ROUND_VARIABLE = "HARDVIEWS_ROUND"
"""Environment variable: the number of this round; a later life of the job has a higher one."""

REACHED_VARIABLE = "HARDVIEWS_REACHED"
"""Environment variable: the last step that any life of the job has told of."""

GRACE_VARIABLE = "HARDVIEWS_GRACE"
"""Environment variable: seconds that a process has to save and leave in after SIGTERM."""

STACKS = signal.SIGUSR2
"""Signal on which a training process and its loader's processes write the stacks of all their threads to stderr."""

_PEER_LOST = ("connection", "gloo", "peer", "socket", "timed out", "broken pipe", "store", "nccl")


class Phase(StrEnum):
    """Part of a training process's life, for which the watchdog has a limit of its own."""

    START = "start"  # before the first step
    STEP = "step"  # between two steps
    DATA = "data"  # waiting for a batch
    EPOCH = "epoch"  # a method looks at all images before an epoch, or the monitor at its own
    COMPILE = "compile"  # torch.compile makes a graph that is first needed in the middle of a run
    SAVE = "save"  # the last save
    END = "end"  # after it


class _Line:
    """The channel to the agent; several threads may speak."""

    def __init__(self, channel: Connection) -> None:
        self.guard = Guard(channel, self.beat)
        self.phase = Phase.START
        self.count = 0  # of signs of progress
        self._channel = channel
        self._lock = threading.Lock()

    def say(self, **message: object) -> None:
        try:
            with self._lock:
                # An agent that stands still for a moment must not hold up the steps; it will hear of a later one.
                if "step" in message and not select.select([], [self._channel], [], 0)[1]:
                    return
                self._channel.send_bytes(json.dumps(message).encode())
        except OSError:
            return  # the agent is gone: the guard ends this process

    def beat(self) -> None:
        """Say that this process lives, and in which phase; the guard, which says it, must wait for nobody."""
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
    """Tells the coordinator that this life of the job has come as far as `step`.

    Args:
        step: number of steps.
        batch: samples of a step, those of all processes; for the coordinator's metrics.
    """
    if _line:
        _line.phase = Phase.STEP
        _line.count += 1
        _line.say(step=step, **({} if batch is None else {"batch": batch}))


def advanced() -> None:
    """Notes a sign of progress within a phase, for the watchdog."""
    if _line:
        _line.count += 1


@contextmanager
def doing(phase: Phase) -> Iterator[None]:
    """Declares, for the watchdog, that the process is in this phase inside of the block."""
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
    """Says that this process, which leaves, writes nothing more to the run: the others need not wait for its end."""
    if _line:
        _line.say(written=True)


def last_reached() -> int | None:
    """Returns the furthest step that earlier lives of the job told of, as known when this one began."""
    told = os.environ.get(REACHED_VARIABLE)
    return int(number(REACHED_VARIABLE, told, at_least(0), "steps")) if told else None


def leaving() -> AbstractContextManager[None]:
    """Says that this process is leaving in an orderly way and is not to be shot when its peers go; call it once.

    It holds until the process ends, so the context that is returned is for the eye alone.
    """
    if _line:
        _line.guard.spare()
    return nullcontext()


@contextmanager
def supervised() -> Iterator[None]:
    """Runs the training of one process as a part of its job.

    Leaving the block normally means that training is complete; rank 0's word counts. A `UserError` ends the job on
    all nodes, since a restart would meet it again. Anything else that is raised (a lost peer, or `SystemExit` after
    a save on eviction) leads to another round.
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
    """Whether an error says no more than that another process is gone."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    distributed = torch.distributed
    if isinstance(error, distributed.DistError):
        return True
    # gloo's errors, and those that DDP makes of them, are RuntimeErrors that only their words tell apart.
    text = str(error).lower()
    return type(error) is RuntimeError and any(word in text for word in _PEER_LOST)


def run_worker(
    channel: Connection,
    variables: Mapping[str, str],
    outputs: tuple[Connection, ...],
    module: str,
    words: Sequence[str],
) -> None:
    """Runs `python -m module words...` in this process, which an agent has forked from a prepared one.

    Args:
        channel: to the agent.
        variables: of the environment, as torchrun sets them.
        outputs: where stdout and stderr go, if not where the agent's go.
        module: with a `__main__` part.
        words: its arguments.
    """
    global _line
    # Its parent, the process that it was forked from, ends with the agent. The guard cannot end a stopped process.
    end_with_parent()
    os.environ.update(variables)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who launched the job: it stops us in good order
    for descriptor, output in enumerate(outputs, start=1):
        os.dup2(output.fileno(), descriptor)
    faulthandler.register(STACKS, file=2, all_threads=True)
    _line = _Line(channel)
    _line.guard.start()
    sys.argv = [module, *words]
    sys.modules.pop(module, None)  # as it was loaded before the fork; runpy would warn of it
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
