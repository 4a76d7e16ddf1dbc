"""The prepared process, from which training processes are forked: it has loaded all libraries.

A process that imports torch, timm, mlflow and the rest takes seconds before its first own line. The fork server imports
them once, while the node waits for its first round; a process forked from it begins at once. One thread does all waits
for it, for two reasons. The agent itself must never wait without a bound, and the fork server may be stopped. And the
kernel ends the fork server together with the thread that started it.
"""

import importlib
import io
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess

from hardviews.elastic import processes
from hardviews.elastic.sockets import use_short_folder
from hardviews.elastic.watchdog import Limits

LEASH = "hardviews.elastic.leash"

_LOOK = 1.0  # seconds between two looks whether it is stopped
_DYING = 5.0  # seconds from the end of its channel to its own end
_REPORT = 60.0  # seconds for the first forked process to end, once it has answered


@dataclass(frozen=True)
class Capacity:
    """The most processes that a command can use, and the reason in a few words."""

    processes: int
    reason: str


class ForkServer:
    """The prepared process that workers are forked from."""

    def __init__(self, preload: str, limits: Limits, words: Sequence[str] = ()) -> None:
        """Name the module whose import loads the workers' libraries.

        Args:
            preload: name of the module; if it has a function `capacity`, it returns the most processes.
            limits: limits of its time stopped, or of its loading.
            words: arguments of the command.

        Raises:
            UserError: no folder can hold the sockets of processes.
        """
        use_short_folder()
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([LEASH, preload])
        self.ready = False
        self.capacity: Capacity | None = None
        self.failures = 0  # preparations in a row that failed
        self.reason = ""  # reason of the last failed preparation
        self._preload, self._limits, self._words = preload, limits, tuple(words)
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True, name="forks")
        self._began = self._looked = 0.0
        self._stopped: float | None = None  # time at which it was stopped
        self._killed = ""  # reason why this agent ended it

    @property
    def pid(self) -> int | None:
        return forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined, no-any-return]

    @property
    def lost(self) -> bool:
        """Whether the prepared process has ended: the next fork would wait until another one has loaded everything."""
        return self.pid is not None and self._ending() != ""

    def _ending(self) -> str:
        """Return the end of the prepared process in words; empty if it has not ended."""
        if self.pid is None:
            return "it could not be started"
        try:
            # It is our child; it is not reaped here, but when the next one is started.
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return "it has ended"
        if found is None:
            return ""
        if found.si_code == os.CLD_EXITED:
            return f"it ended with exit code {found.si_status}: see its output"
        ending = f"it was killed by signal {found.si_status} ({signal.Signals(found.si_status).name})"
        if found.si_status == signal.SIGKILL:
            limit, whose = processes.memory_limit()
            ending += (
                f", as happens when memory runs out: {whose} is {limit / 1e6:.0f} MB. Give more memory "
                "(on a cluster: --memMB)"
            )
        return ending

    def warm_up(self) -> None:
        """Load in the background; `ready` becomes true when it is done."""
        self.ready, self._killed = False, ""
        self._stopped, self._began = None, time.monotonic()
        if not self._thread.is_alive():
            self._thread.start()
        self._asked.put(self._prepare)

    def start(self, process: ForkServerProcess) -> None:
        """Fork a process.

        Raises:
            OSError: the prepared process does not answer, or has ended.
        """
        done = threading.Event()
        failed: list[BaseException] = []

        def fork() -> None:
            try:
                process.start()
            except BaseException as error:
                failed.append(error)
            done.set()

        self._asked.put(fork)
        self._stopped, began = None, time.monotonic()
        while not done.wait(0.05):
            self.end_if_stopped()
            if self._limits.silent and time.monotonic() - began > max(self._limits.silent, 30.0) and self._answers:
                self._kill(f"it did not answer for {time.monotonic() - began:.0f} s")
                began = time.monotonic()
        if failed:
            raise OSError(f"the prepared process did not start another one: {failed[0]!r}") from failed[0]

    @property
    def _answers(self) -> bool:
        """Return whether it has loaded its libraries: from then on it answers at once."""
        return self.ready and not self.lost

    def end_if_stopped(self) -> None:
        """End the prepared process if it was stopped, or has been loading, for too long: another one may succeed."""
        now = time.monotonic()
        if now - self._looked < _LOOK or self.pid is None:
            return
        gap, self._looked = now - self._looked, now
        if gap > 5 * _LOOK or processes.state(self.pid) not in processes.STOPPED:
            self._stopped = None
        elif self._stopped is None:
            self._stopped = now
        elif 0 < self._limits.silent <= now - self._stopped:
            self._kill(f"it was stopped for {now - self._stopped:.0f} s")
        if not self.ready and 0 < self._limits.start <= now - self._began:
            self._kill(f"its libraries were not loaded after {now - self._began:.0f} s")

    def _kill(self, why: str) -> None:
        print(f"the prepared process is ended: {why}", file=sys.stderr, flush=True)
        self._killed = why
        self._stopped, self._began = None, time.monotonic()
        if self.pid is not None and not self.lost:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _work(self) -> None:
        while True:
            self._asked.get()()

    def _prepare(self) -> None:
        """Request a first process: it starts when everything is loaded."""
        try:
            ours, theirs = multiprocessing.Pipe(duplex=False)
            words = self._words if self.capacity is None else None
            first = self.context.Process(target=_first, args=(theirs, self._preload, words))
            first.start()
            theirs.close()
            with suppress(EOFError):
                if ours.poll(_REPORT) and (limit := ours.recv()) is not None:
                    self.capacity = Capacity(*limit)
            ours.close()
            first.join()
            self.reason = self._ending()
        except (OSError, EOFError) as error:
            # Its channel ends a moment before the kernel reports its end.
            deadline = time.monotonic() + _DYING
            while not (reason := self._ending()) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.reason = self._killed or reason or str(error) or type(error).__name__
        self.failures = self.failures + 1 if self.reason else 0
        self.ready = True


def _first(answer: Connection, module: str, words: Sequence[str] | None) -> None:
    """Send the number of processes that the command can use; the training process reports mistakes in the command."""
    limit: tuple[int, str] | None = None
    ask = getattr(importlib.import_module(module), "capacity", None) if words is not None else None
    if ask is not None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), suppress(BaseException):
            limit = ask(words)
    answer.send(limit)
