"""Runs of a comparison in processes of their own, some at a time, until all are made or time is up."""

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

Process = subprocess.Popen[bytes]


class Named(Protocol):
    """A run with a name."""

    @property
    def name(self) -> str:
        """Name of its files."""


J = TypeVar("J", bound=Named)


def run_all(
    waiting: list[J],
    start: Callable[[J], Process | None],
    done: Callable[[J, Process], None],
    processes: int,
    minutes: float,
) -> None:
    """Start the runs in order and call `done` when one has ended; runs that are left when time is up save a checkpoint.

    start: returns None for a run that cannot be made yet. done: raises SystemExit for a run that failed.
    """
    total, ended, began = len(waiting), 0, time.monotonic()
    running: dict[int, tuple[J, Process]] = {}
    waiting = list(waiting)
    try:
        while (waiting or running) and time.monotonic() < began + 60 * minutes:
            for number, (job, process) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[number]
                done(job, process)
                ended += 1
                left = (time.monotonic() - began) / ended * (total - ended)
                print(f"{ended} of {total}: {job.name}, about {left / 60:.0f} min left", flush=True)
            while waiting and len(running) < processes:
                job = waiting.pop(0)
                if (begun := start(job)) is not None:
                    running[begun.pid] = job, begun
            time.sleep(0.5)
    finally:
        for _, process in running.values():
            process.send_signal(signal.SIGTERM)  # it saves a checkpoint, from which the next call goes on
        for _, process in running.values():
            process.wait(120)
