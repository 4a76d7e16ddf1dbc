"""The training processes of one node in one round, from the side of their agent."""

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
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from hardviews.elastic import processes
from hardviews.elastic.forkserver import ForkServer
from hardviews.elastic.guard import BEAT, BROKEN
from hardviews.elastic.messages import Failure, Round
from hardviews.elastic.watchdog import Limits, Watch
from hardviews.elastic.worker import EVICTED, REACHED_VARIABLE, ROUND_VARIABLE, STACKS, Phase, run_worker

_UNTOLD = 255  # exit code of a process whose own code is lost with the process that it was forked from
_TELLING = 5.0  # seconds that the exit code of an ended process may take to arrive
_MEASURE = 1.0  # seconds between two looks at the kernel's figures of the processes
_WRITING = 0.5  # seconds for a process to write its stacks


@dataclass
class Worker:
    """One process, from the side of its agent."""

    rank: int
    process: ForkServerProcess
    channel: Connection
    watch: Watch
    failing: str | None = None  # reason of its failure, in its own words
    user: bool = False  # whether the failure is the user's mistake
    peer: bool = False  # it lost another process
    silent: bool = False  # its channel has ended
    written: bool = False  # it leaves, and does not write to the run any more
    handle: int | None = None  # for signals, also if the process that it was forked from is gone
    ended: float | None = None  # time at which its end was noticed

    def __post_init__(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.handle = os.pidfd_open(self.process.pid or -1)

    @property
    def pid(self) -> int:
        return self.process.pid or -1

    @property
    def code(self) -> int | None:
        code = self.process.exitcode
        if code is None and self.gone:
            # The process that it was forked from reports the code, but may be stopped.
            self.ended = self.ended or time.monotonic()
            return _UNTOLD if time.monotonic() - self.ended > _TELLING else None
        return code

    @property
    def gone(self) -> bool:
        """Return whether the process has ended, even if its exit code is unknown."""
        return self.handle is None or bool(select.select([self.handle], [], [], 0)[0])

    def signal(self, number: int) -> None:
        if self.handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, number)

    def join(self, seconds: float) -> None:
        """Wait until the process has ended, also if the process that it was forked from is gone."""
        if self.handle is not None:
            select.select([self.handle], [], [], seconds)
        self.process.join(seconds)

    def close(self) -> None:
        """Release the resources of an ended process."""
        self.channel.close()
        self.silent = True
        if self.handle is not None and self.gone:
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
        limits: Limits,
    ) -> None:
        """Start them.

        Raises:
            OSError: the process that they are forked from does not answer.
        """
        member, master = round.members[place], round.members[0]
        first = round.first_rank(place)
        self.reached: int | None = None
        self.batch: int | None = None  # samples of a step, over all processes of the job
        self._broken = False
        self._measured = 0.0
        self._prefixed: list[threading.Thread] = []
        self.all: list[Worker] = []
        for local in range(member.processes):
            variables_of_rank = {
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
                target=run_worker, args=(theirs, variables_of_rank, outputs, command[0], tuple(command[1:]))
            )
            try:
                server.start(process)
            except OSError:
                self.kill()
                raise
            finally:
                theirs.close()
                for output in outputs:
                    output.close()
            self.all.append(Worker(first + local, process, ours, Watch(limits, time.monotonic())))

    def _prefixes(self, rank: int) -> tuple[Connection, ...]:
        """Make pipes for stdout and stderr of a process, to prefix its lines."""
        ends = []
        for stream in (sys.stdout, sys.stderr):
            reader, writer = multiprocessing.Pipe(duplex=False)
            thread = threading.Thread(target=_copy, args=(reader, f"[{rank}]: ", stream.fileno()), daemon=True)
            thread.start()
            self._prefixed.append(thread)
            ends.append(writer)
        return tuple(ends)

    def listen(self) -> None:
        """Read the messages of the processes, and the kernel's figures of them."""
        now = time.monotonic()
        measure = now - self._measured >= _MEASURE
        if measure:
            self._measured = now
        for worker in self.all:
            worker.watch.look(now)
            if measure and worker.code is None:
                used = processes.seconds_used(worker.pid)
                # Its children are looked for only if it may be stuck.
                its = [worker.pid, *processes.descendants(worker.pid)] if worker.watch.idle(now) >= _MEASURE else []
                stopped = [pid for pid in its if processes.state(pid) in processes.STOPPED]
                worker.watch.measure(used, stopped, now)
            step: int | None = None
            try:
                while not worker.silent and worker.channel.poll(0):
                    message = json.loads(worker.channel.recv_bytes())
                    if "phase" in message:
                        worker.watch.hear(Phase(message["phase"]), int(message["count"]), now)
                    if "step" in message:
                        step = int(message["step"])
                        self.reached = max(self.reached or 0, step)
                        self.batch = message.get("batch", self.batch)
                    worker.written = worker.written or bool(message.get("written"))
                    if "failing" in message and worker.failing is None:
                        worker.failing = str(message["failing"])
                        worker.user = bool(message.get("user"))
                        worker.peer = bool(message.get("peer"))
            except (EOFError, OSError):
                worker.silent = True
            if step is not None:
                worker.watch.step(step, now)

    def tell(self, word: bytes) -> None:
        """Send a message to every process."""
        for worker in self.all:
            # A process that leaves its channel full does not need one more message.
            if worker.code is None and select.select([], [worker.channel], [], 0)[1]:
                with contextlib.suppress(OSError):
                    worker.channel.send_bytes(word)

    def beat(self) -> None:
        """Report to the processes that their agent lives."""
        self.tell(BEAT)

    def tell_broken(self) -> None:
        """Report to the processes that the round is broken."""
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
    def written(self) -> bool:
        """Whether no process writes to the run any more: each has reported it, or has ended."""
        return all(worker.written or worker.code is not None for worker in self.all)

    @property
    def overdue(self) -> bool:
        """Whether every process that runs has made no progress for longer than it may."""
        now = time.monotonic()
        running = [worker for worker in self.all if worker.code is None]
        return bool(running) and all(worker.failing is None and worker.watch.overdue(now) for worker in running)

    def standing(self, node: str, stuck: bool) -> tuple[Worker, str] | None:
        """Return a process that is stuck, and a sentence about it; None if there is none.

        Args:
            node: name of this node.
            stuck: whether all processes of the round have made no progress for longer than the limit.
        """
        now = time.monotonic()
        for worker in self.all:
            if worker.code is not None or worker.failing is not None:
                continue
            known = f"rank {worker.rank} on {node} has taken {worker.watch.standing(now)}"
            stopped = worker.watch.stopped(now)
            if worker.watch.frozen(now):
                return worker, f"{known} and does not answer ({processes.described(worker.pid)})"
            if stopped is not None:
                what = "it" if stopped == worker.pid else f"its process {stopped}"
                return worker, f"{known}, and {what} does not run ({processes.described(stopped)})"
            if stuck and worker.watch.overdue(now):
                idle, limit = worker.watch.idle(now), worker.watch.limit
                phase = f"in its phase {worker.watch.phase} the limit is {limit:.0f} s"
                return worker, f"{known}; it answers, but made no progress for {idle:.0f} s, and {phase}"
        return None

    def write_stacks(self) -> None:
        """Make every process and its loader workers write the stacks of their threads to stderr."""
        for worker in self.all:
            for pid in [worker.pid, *processes.descendants(worker.pid)] if worker.code is None else []:
                print(f"rank {worker.rank}, process {pid}: {processes.described(pid)}", file=sys.stderr, flush=True)
                if processes.state(pid) not in processes.STOPPED and processes.catches(pid, STACKS):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, STACKS)
                    time.sleep(_WRITING)

    @property
    def unkillable(self) -> list[Worker]:
        """Return the processes that still run after they were killed: they wait in the kernel."""
        return [worker for worker in self.all if not worker.gone]

    @property
    def failure(self) -> Failure | None:
        """Return the first failure that counts, reported or observed; None if there is none."""
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
        """End the remaining processes: SIGTERM, and after `grace` seconds SIGKILL."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.alive and time.monotonic() < deadline:
            self.beat()
            time.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """End all processes at once, and release everything."""
        self.signal(signal.SIGKILL)
        for worker in self.all:
            worker.join(_TELLING)
        self.listen()
        for thread in self._prefixed:
            thread.join(1)
        for worker in self.all:
            worker.close()


def _ending(code: int | None) -> str:
    if code == _UNTOLD:
        return "ended with the process that it was forked from"
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
