"""A process of `hardviews launch` that is started again when it dies, unless it can never work."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

from hardviews.elastic import processes, signs
from hardviews.elastic.coordinator import FAILED

BEFORE_JOINING = 5
"""Number of deaths in a row before it joins, after which a process is given up."""

BEFORE_A_STEP = 10
"""The same for a process that joins, but takes no step; for a coordinator, that lives less than a minute."""

_QUICK = 5.0  # seconds; a process that dies earlier is restarted with a delay
_STEADY = 60.0  # seconds that a working coordinator lives
_GAP = 5.0  # seconds between two looks that prove that the launcher itself was stopped


class Child:
    """A process that is started again when it dies.

    Attributes:
        code: exit code of its end, once it is not restarted any more.
        given_up: reason why it is not restarted although it should be; empty while it is.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        variables: dict[str, str],
        prefix: str,
        silent: float,
        trains: bool = True,
    ) -> None:
        """Start it.

        Args:
            name: name in the log.
            command: module and its arguments.
            variables: environment variables, added to this process's own.
            prefix: prefix of each line that it writes.
            silent: seconds after which a process that is stopped is ended; 0: never.
            trains: whether it must take steps.
        """
        self.name = name
        self.code: int | None = None
        self.given_up = ""
        self._command = [sys.executable, "-m", *command]
        # In all processes that it starts, files in the current folder must not replace modules.
        self._variables = os.environ | {"PYTHONSAFEPATH": "1"} | variables
        self._prefix = prefix
        self._silent, self._trains = silent, trains
        self._threads: list[threading.Thread] = []
        self._delay = 0.0
        self._again = 0.0
        self._deaths = 0  # number in a row
        self._last = ""  # last line on stderr
        self._looked = time.monotonic()
        self._stopped: float | None = None  # time at which it was stopped
        self._start()

    def _start(self) -> None:
        self._born, self._stopped, self._last = time.monotonic(), None, ""
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        try:
            # In sessions of their own: Ctrl-C is for this process, which then asks the others to leave.
            self._process = subprocess.Popen(
                self._command,
                env=self._variables | {signs.VARIABLE: str(theirs)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(theirs,),
            )
        finally:
            os.close(theirs)
        self._signs = ours
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for stream, source in ((sys.stdout, self._process.stdout), (sys.stderr, self._process.stderr)):
            thread = threading.Thread(target=self._copy, args=(source, stream), daemon=True)
            thread.start()
            self._threads.append(thread)

    def look(self, ends: Sequence[int]) -> int | None:
        """Restart it if it has died; if its exit code is one of `ends`, return that code instead."""
        code = self._process.poll()
        if self.code is None and code is None:
            self._end_if_stopped()
        if self.code is not None or code is None:
            return self.code
        if code in ends:
            self.code = code
        elif not self._again:
            self._mourn(code)
        if self._again and time.monotonic() >= self._again:
            self._again = 0.0
            self._start()
        return self.code

    def _mourn(self, code: int) -> None:
        """Note a death, and decide whether to restart."""
        for thread in self._threads:
            thread.join(1)
        given = self._given()
        lived = time.monotonic() - self._born
        well = signs.Sign.STEPPED in given if self._trains else lived > _STEADY
        self._deaths = 1 if well else self._deaths + 1
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        joined = signs.Sign.JOINED in given
        if self._deaths >= (BEFORE_A_STEP if joined else BEFORE_JOINING):
            self.given_up = (
                f"{self.name} {how}, the {self._deaths}th time in a row "
                + ("without a step between" if joined else "before it could begin")
                + (f": {self._last}" if self._last else "")
            )
            self.code = FAILED
            return
        self._delay = min(10.0, 2 * self._delay or 1.0) if lived < _QUICK else 0.0
        self._again = time.monotonic() + self._delay
        say(f"{self.name} {how}; starting it again" + (f" in {self._delay:.0f} s" if self._delay else ""))

    def _given(self) -> set[signs.Sign]:
        """Return the signs of the dead process."""
        try:
            text = os.read(self._signs, 64)
        except BlockingIOError:
            text = b""  # one of its processes still holds the other end
        os.close(self._signs)
        return {sign for sign in signs.Sign if sign.value in text}

    def _end_if_stopped(self) -> None:
        """End it if it was stopped for too long: it was probably forgotten."""
        now = time.monotonic()
        gap, self._looked = now - self._looked, now
        if gap > _GAP or processes.state(self._process.pid) not in processes.STOPPED:
            self._stopped = None
        elif self._stopped is None:
            self._stopped = now
        elif 0 < self._silent <= now - self._stopped:
            state = processes.described(self._process.pid)
            say(f"{self.name} does not run for {now - self._stopped:.0f} s ({state}): it is ended")
            self._process.kill()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self, seconds: float) -> int | None:
        """Wait for its end, and force it after `seconds`; return the exit code, None if it was forced."""
        code: int | None
        try:
            code = self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = None
        for thread in self._threads:
            thread.join(1)
        return code

    def _copy(self, theirs: IO[bytes], ours: IO[str]) -> None:
        """Copy the lines of a process to our own output."""
        with theirs:
            for line in theirs:
                text = line.decode(errors="replace")
                if ours is sys.stderr and text.strip():
                    self._last = text.strip()
                try:
                    ours.write(self._prefix + (text if text.endswith("\n") else text + "\n"))
                    ours.flush()
                except (OSError, ValueError):
                    return  # nobody reads any more


def say(text: str) -> None:
    """Print an action of the launcher."""
    print(f"launch: {text}", file=sys.stderr, flush=True)
