"""Watches loader workers: if one of them ends or stops, this is noticed, and its batches are made again.

The end of a worker is noticed within 5 s, the interval of torch's loader. A stopped worker (SIGSTOP) is noticed within
20 s. A running worker without a batch is noticed within 20 minutes, because it may wait for a store that long.
"""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.train.parcel import Parcel

TRIES = 3  # attempts in a row without a batch, until the user must act
_STILL = 15  # looks at a stopped process until it is killed
_LOOK = 1.0  # seconds between two looks
_LONGEST = 1200.0  # seconds without a batch; twice the longest wait for a store
_WHERE = "the loader workers of this process"
_ALONE = "or pass --loader.workers 0: the training process then reads the images itself"

logger = logging.getLogger(__name__)


class Lost(Exception):
    """A batch of the workers will not come; the message has the reason and the remedy."""


def check_crew(workers: int) -> None:
    """Refuse workers that this machine cannot have.

    Raises:
        UserError: something is missing; the message names it.
    """
    if not workers:
        return
    try:
        # A lock is a file in /dev/shm; queues need some.
        get_context("forkserver").Lock()
    except OSError as error:
        raise UserError(f"Loader workers cannot be started: {_in_words(error)}") from error


class Crew:
    """The worker processes of one data loader, each of which makes the next batch in its turn."""

    def __init__(self, loader: "DataLoader[Any]") -> None:
        """Start them.

        Raises:
            Lost: they cannot be started.
        """
        self._batches: Any = None
        self._waiting: float | None = None  # begin of the wait for a batch
        self._over = threading.Event()
        self._reason = ""
        try:
            self._batches = iter(loader)
        except (OSError, EOFError, RuntimeError) as error:
            raise Lost(_in_words(error)) from error
        threading.Thread(target=self._watch, name="crew", daemon=True).start()

    def __iter__(self) -> Iterator[Any]:
        """Yield the workers' batches in order, out of their parcels.

        Raises:
            Lost: a worker has ended, or its batch did not arrive.
        """
        while True:
            self._waiting = time.monotonic()
            try:
                made = next(self._batches)
                content = made.open() if isinstance(made, Parcel) else made
            except StopIteration:
                return
            except (OSError, EOFError, RuntimeError) as error:
                raise Lost(self._why(error)) from error
            finally:
                self._waiting = None
            yield content

    def close(self) -> None:
        """End the workers at once.

        They only read, and a reader may be killed at any moment. The data loader by itself would ask them to leave and
        wait; they refuse signals (see `nursery.leave_with_parent`).
        """
        self._over.set()
        batches = self._batches
        if not getattr(batches, "_workers", None) or batches._shutdown:
            return
        if not hasattr(batches, "_pin_memory_thread"):  # it would wait for the rest of a batch that was sent in part
            # Otherwise the loader would take their ends for failures.
            signal_handling._remove_worker_pids(id(batches))
            batches._worker_pids_set = False
            for worker in batches._workers:
                worker.kill()
        batches._shutdown_workers()

    def _watch(self) -> None:
        """Kill workers that stopped: their end is noticed like any other."""
        stopped: dict[int, int] = {}
        while not self._over.wait(_LOOK):
            for worker in self._batches._workers:
                # Counted in looks: if this process was stopped as well, no time has passed for it.
                stopped[worker.pid] = stopped.get(worker.pid, 0) + 1 if _is_stopped(worker.pid) else 0
                if stopped[worker.pid] >= _STILL:
                    self._kill(worker, f"process {worker.pid} stood still for {_STILL * _LOOK:.0f} s")
            since = self._waiting
            if since is not None and time.monotonic() - since > _LONGEST:
                for worker in self._batches._workers:
                    self._kill(worker, f"they made no batch for {_LONGEST:.0f} s")

    def _kill(self, worker: Any, reason: str) -> None:
        self._reason = self._reason or f"{reason}; look at the disk and at the load of this machine"
        with suppress(OSError):
            worker.kill()

    def _why(self, error: Exception) -> str:
        """Return the error for a lost batch, in words."""
        codes = {worker.pid: worker.exitcode for worker in self._batches._workers}
        dead = [(pid, code) for pid, code in codes.items() if code is not None and code != 0]
        if self._reason:
            return f"{self._reason}; {_ALONE}."
        if not dead:
            return _in_words(error)
        pid, code = dead[0]
        if code == -signal.SIGKILL:
            how = (
                "was killed by SIGKILL, as the kernel does when memory runs out. Give the job more memory, lower "
                "--loader.workers, --loader.ahead or --loader.canvas"
            )
        elif code == -signal.SIGBUS:
            how = "was killed by SIGBUS: there is no memory left for its batch. Give the job more memory"
        elif code < 0:
            how = f"was killed by {signal.Signals(-code).name}. Its own output says more"
        else:
            how = f"ended with exit code {code}. Its own output says more"
        return f"process {pid} {how}; {_ALONE}."


def _in_words(error: Exception) -> str:
    """Return why workers cannot be started or a batch cannot be taken over, and the remedy."""
    words = str(error) or type(error).__name__
    if "Too many open files" in words or "ancdata" in words:
        error = OSError(24, words)
    if isinstance(error, OSError) and error.errno not in (None, 24) and not Path("/dev/shm").is_dir():
        words = "/dev/shm, where processes keep their locks, is missing. Mount a tmpfs there"
    elif isinstance(error, OSError) and error.errno in (28, 30, 13, 1, 38, 2):
        words = (
            f"/dev/shm, where processes keep their locks, cannot be written ({error.strerror}). Free some of it, or "
            "mount a larger one: docker run --shm-size=1g, --shm 1000 for a job on Kubernetes"
        )
    elif remedy := of_machine(error, _WHERE):
        words = remedy.words.rstrip(".")
    return f"{words}; {_ALONE}."


def _is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False
