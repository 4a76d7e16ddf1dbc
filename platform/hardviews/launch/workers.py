"""The training processes of one node in one round, forked from a process that has all libraries loaded.

A process that imports torch, timm, mlflow and the rest takes seconds before its first own line. The fork server does
that once, while the node waits for its first round; a process forked from it begins at once.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess

from hardviews.launch.guard import BEAT, BROKEN
from hardviews.launch.messages import Failure, Round
from hardviews.launch.worker import EVICTED, REACHED_VARIABLE, ROUND_VARIABLE, run_worker


class ForkServer:
    """The prepared process that workers are forked from."""

    def __init__(self, preload: str) -> None:
        """Name the module whose import loads what workers need."""
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([preload])
        self.ready = False

    @property
    def lost(self) -> bool:
        """Whether the prepared process has ended: the next fork would wait until another one has loaded everything."""
        pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        try:
            # It is our child: asked for without reaping it, which is for the one who starts the next.
            return pid is not None and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def warm_up(self) -> threading.Thread:
        """Load in the background; `ready` says when it is done."""
        self.ready = False
        thread = threading.Thread(target=self._fork_once, daemon=True, name="warm-up")
        thread.start()
        return thread

    def _fork_once(self) -> None:
        try:
            # It answers when everything is loaded.
            first = self.context.Process(target=_nothing)
            first.start()
            first.join()
        except (OSError, EOFError) as error:
            print(f"the training processes could not be prepared: {error}", file=sys.stderr, flush=True)
        self.ready = True


def _nothing() -> None:
    """Has a process forked and ended."""


@dataclass
class Worker:
    """One process, as its agent sees it."""

    rank: int
    process: ForkServerProcess
    channel: Connection
    failing: str | None = None  # why, in its own words
    user: bool = False  # it is the user's mistake
    peer: bool = False  # it lost another
    silent: bool = False  # its channel has ended
    handle: int | None = None  # to signal it by, also where the process it was forked from is gone

    def __post_init__(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.handle = os.pidfd_open(self.process.pid or -1)

    @property
    def code(self) -> int | None:
        return self.process.exitcode

    def signal(self, number: int) -> None:
        if self.handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, number)

    def join(self, seconds: float) -> None:
        """Wait until the process has ended, whoever it was that it was forked from."""
        if self.handle is not None:
            select.select([self.handle], [], [], seconds)
        self.process.join(seconds)

    def close(self) -> None:
        """Let go of a process that has ended."""
        self.channel.close()
        self.silent = True
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


class Workers:
    """All processes of a node in a round."""

    def __init__(
        self,
        server: ForkServer,
        round: Round,
        place: int,
        reached: int | None,
        variables: Mapping[str, str],
        command: Sequence[str],
    ) -> None:
        """Start them."""
        member, master = round.members[place], round.members[0]
        first = round.first_rank(place)
        self.reached: int | None = None
        self._broken = False
        self._prefixed: list[threading.Thread] = []
        self.all: list[Worker] = []
        for local in range(member.processes):
            told = {
                **variables,
                "RANK": str(first + local),
                "ROLE_RANK": str(first + local),
                "LOCAL_RANK": str(local),
                "GROUP_RANK": str(place),
                "WORLD_SIZE": str(round.processes),
                "ROLE_WORLD_SIZE": str(round.processes),
                "LOCAL_WORLD_SIZE": str(member.processes),
                "GROUP_WORLD_SIZE": str(len(round.members)),
                "MASTER_ADDR": master.address,
                "MASTER_PORT": str(master.port),
                "TORCHELASTIC_RESTART_COUNT": str(round.number - 1),
                ROUND_VARIABLE: str(round.number),
                REACHED_VARIABLE: "" if reached is None else str(reached),
            }
            ours, theirs = multiprocessing.Pipe()
            outputs = self._prefixes(first + local) if member.processes > 1 else ()
            process = server.context.Process(
                target=run_worker, args=(theirs, told, outputs, command[0], tuple(command[1:]))
            )
            process.start()
            theirs.close()
            for output in outputs:
                output.close()
            self.all.append(Worker(first + local, process, ours))

    def _prefixes(self, rank: int) -> tuple[Connection, ...]:
        """Make ends for stdout and stderr of a process whose lines are to be told from the others'."""
        ends = []
        for stream in (sys.stdout, sys.stderr):
            reader, writer = multiprocessing.Pipe(duplex=False)
            thread = threading.Thread(target=_copy, args=(reader, f"[{rank}]: ", stream.fileno()), daemon=True)
            thread.start()
            self._prefixed.append(thread)
            ends.append(writer)
        return tuple(ends)

    def listen(self) -> None:
        """Take in what the processes say."""
        for worker in self.all:
            try:
                while not worker.silent and worker.channel.poll(0):
                    message = json.loads(worker.channel.recv_bytes())
                    if "step" in message:
                        self.reached = max(self.reached or 0, int(message["step"]))
                    if "failing" in message and worker.failing is None:
                        worker.failing = str(message["failing"])
                        worker.user = bool(message.get("user"))
                        worker.peer = bool(message.get("peer"))
            except (EOFError, OSError):
                worker.silent = True

    def tell(self, word: bytes) -> None:
        """Say a word to every process."""
        for worker in self.all:
            # A process that does not read for so long that its channel is full will not miss a word.
            if worker.code is None and select.select([], [worker.channel], [], 0)[1]:
                with contextlib.suppress(OSError):
                    worker.channel.send_bytes(word)

    def beat(self) -> None:
        """Tell the processes that their agent lives."""
        self.tell(BEAT)

    def tell_broken(self) -> None:
        """Tell the processes that the round is broken."""
        self._broken = True
        self.tell(BROKEN)

    def signal(self, number: int) -> None:
        """Send a signal to every process that runs."""
        for worker in self.all:
            worker.signal(number)

    @property
    def alive(self) -> bool:
        """Whether a process runs."""
        return any(worker.code is None for worker in self.all)

    @property
    def failure(self) -> Failure | None:
        """The first failure that counts, said or seen; None while all is well."""
        found = [
            Failure(
                worker.rank,
                worker.failing or _ending(worker.code),
                peer=worker.peer or (self._broken and worker.failing is None),
                killed=worker.failing is None and (worker.code or 0) < 0,
            )
            for worker in self.all
            if worker.failing or worker.code not in (None, 0, EVICTED)
        ]
        return min(found, key=lambda failure: failure.peer, default=None)

    def close(self, grace: float) -> None:
        """End what still runs: SIGTERM, and after `grace` seconds SIGKILL."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.alive and time.monotonic() < deadline:
            self.beat()
            time.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """End at once, and let go of everything."""
        self.signal(signal.SIGKILL)
        for worker in self.all:
            worker.join(5)
        self.listen()
        for thread in self._prefixed:
            thread.join(1)
        for worker in self.all:
            worker.close()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
    return f"exit code {code}: see its output"


def _copy(reader: Connection, prefix: str, descriptor: int) -> None:
    """Write lines from a pipe to a descriptor, each with a prefix."""
    with os.fdopen(os.dup(reader.fileno()), "rb", buffering=0) as raw:
        reader.close()
        rest = b""
        while chunk := raw.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            text = b"".join(prefix.encode() + line + b"\n" for line in lines)
            os.write(descriptor, text)
        if rest:
            os.write(descriptor, prefix.encode() + rest + b"\n")
