"""A step of a job on Slurm: one trainer's `srun`, which is restarted when the trainer dies."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from hardviews.elastic.coordinator import FAILED
from hardviews.elastic.worker import MISTAKE

LEFT = (128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGHUP)
"""Exit codes of a trainer that was asked to leave."""

DEATHS = 5
"""A trainer is given up after this many deaths in a row, each within a minute of its start."""

LINGER = 40.0
"""Seconds until a job that is over for a trainer is over for its coordinator too."""

_STEADY = 60.0  # seconds; a trainer that lives longer began without a fault
_QUICK = 10.0  # seconds; a trainer that dies earlier is restarted with a delay


class Step:
    """One trainer on one node.

    Attributes:
        code: exit code, once the trainer is not restarted any more.
    """

    def __init__(self, name: str, command: Sequence[str], variables: Mapping[str, str]) -> None:
        """Start the trainer.

        Args:
            name: name in the log.
            command: `srun` and its arguments.
            variables: environment of `srun`.
        """
        self.name = name
        self.code: int | None = None
        self._command = list(command)
        self._variables = dict(variables)
        self._deaths = 0  # number in a row
        self._delay = 0.0
        self._again = 0.0
        self._start()

    def _start(self) -> None:
        self._born = time.monotonic()
        # In a session of its own, so that signals to the batch script's group do not reach it.
        self._process = subprocess.Popen(
            self._command, env=self._variables, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def look(self) -> int | None:
        """Restart the trainer if it has died; return its exit code if it has ended for good."""
        if self.code is not None or (code := self._process.poll()) is None:
            return self.code
        if code in (MISTAKE, FAILED, *LEFT):
            self.code = code
        elif not self._again:
            self._mourn(code)
        elif time.monotonic() >= self._again:
            self._again = 0.0
            self._start()
        return self.code

    def _mourn(self, code: int) -> None:
        lived = time.monotonic() - self._born
        self._deaths = 1 if lived > _STEADY else self._deaths + 1
        if self._deaths >= DEATHS:
            say(f"{self.name} has died {self._deaths} times in a row; the job goes on without it")
            self.code = FAILED
            return
        if code == 0:
            # The job is over, or srun has lost the node: its code is 0 then, too.
            self._delay = LINGER
        else:
            self._delay = min(10.0, 2 * self._delay or 1.0) if lived < _QUICK else 0.0
            how = f"was killed by {signal.Signals(code - 128).name}" if 128 < code < 160 else f"ended with {code}"
            say(f"{self.name} {how}; starting it again" + (f" in {self._delay:.0f} s" if self._delay else ""))
        self._again = time.monotonic() + self._delay

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self, seconds: float) -> int | None:
        """Wait for the end, and force it after some seconds; return the exit code, None if the end was forced."""
        try:
            return self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.terminate()  # srun then ends its task
            try:
                self._process.wait(10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            return None


def say(text: str) -> None:
    """Write a message about the job's processes into its log."""
    print(f"slurm: {text}", file=sys.stderr, flush=True)
