"""Decides whether a training process is stuck: by its messages, by its steps, and by its processor time.

A process *beats*: one of its threads reports every second that it lives, and its phase. A stopped process is silent. A
process that waits for ever beats on, but takes no step and enters no other phase.
"""

import statistics
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields

from hardviews.checked import at_least, number
from hardviews.elastic.worker import Phase
from hardviews.errors import UserError

VARIABLE = "HARDVIEWS_WATCHDOG"
"""Environment variable: limits in place of the usual ones, such as `silent=60,step=300`; `off`: no limit."""

_KNOWN = 3  # steps of a round after which the usual time of a step is known
_REMEMBERED = 64  # number of steps that are remembered
_GAP = 5.0  # seconds between two looks that prove that the agent itself was stopped


@dataclass(frozen=True)
class Limits:
    """Longest times without progress of a training process; seconds, 0 for ever.

    Attributes:
        silent: time without a message and without processor time, or time that it or one of its processes is stopped.
        step: smallest limit between two steps.
        times: smallest limit between two steps, as a multiple of the usual step.
        data: wait for the next batch; a minute longer than the wait for a store (HARDVIEWS_PATIENCE).
        start: time from its beginning to its first steps.
        epoch: time between two batches that a method reads before an epoch, or the monitor between two steps.
        compile: time of torch.compile for one graph.
        save: time of the save before it leaves or ends.
        end: time after the last save.
    """

    silent: float = 30.0
    step: float = 60.0
    times: float = 20.0
    data: float = 660.0
    start: float = 1800.0
    epoch: float = 1800.0
    compile: float = 1800.0
    save: float = 600.0
    end: float = 1800.0

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "Limits":
        """Read the limits from environment variables.

        Raises:
            UserError: they cannot be read.
        """
        text = variables.get(VARIABLE, "").strip()
        names = [field.name for field in fields(cls)]
        if text == "off":
            return cls(**dict.fromkeys(names, 0.0))
        given: dict[str, float] = {}
        with suppress(UserError):  # the code that waits for the store reports it
            patience = number("HARDVIEWS_PATIENCE", variables.get("HARDVIEWS_PATIENCE") or "0", at_least(0), "seconds")
            given["data"] = max(cls.data, patience + 60.0)
        for word in filter(None, text.split(",")):
            name, _, value = (part.strip() for part in word.partition("="))
            try:
                given[name] = float(value)
            except ValueError:
                given[name] = -1.0
            if name not in names or not 0 <= given[name] < float("inf"):
                raise UserError(
                    f"{VARIABLE} is {text!r}, and {word!r} is no limit. Write off, or NAME=SECONDS with commas "
                    f"between, for example silent=60,step=300; the names are {', '.join(names)}."
                )
        return cls(**given)

    def of(self, phase: Phase) -> float:
        """Return the longest duration of a phase."""
        return float(getattr(self, phase.value))


class Watch:
    """The beats of one process at its agent; the caller passes the time, in seconds of a clock that moves forward."""

    def __init__(self, limits: Limits, now: float) -> None:
        """Begin with a process that was just started."""
        self.limits = limits
        self.phase = Phase.START
        self.steps = 0  # steps of this round
        self._heard = self._moved = self._stepped = self._looked = self._busy = now
        self._used: float | None = None
        self._count = -1  # number of its signs of progress
        self._last: int | None = None  # last step
        self._intervals: deque[float] = deque(maxlen=_REMEMBERED)
        self._stopped: dict[int, float] = {}  # stopped processes, and the times of their stops

    def look(self, now: float) -> None:
        """Note the time; if the agent itself was stopped, perhaps with the machine, the process is not at fault."""
        gap = now - self._looked
        self._looked = now
        if gap > _GAP:
            self._heard, self._moved = self._heard + gap, self._moved + gap
            self._stepped, self._busy = self._stepped + gap, self._busy + gap
            self._stopped = {pid: since + gap for pid, since in self._stopped.items()}

    def hear(self, phase: Phase, count: int, now: float) -> None:
        """Process a beat: the phase, and the number of signs of progress so far."""
        self._heard = now
        if count != self._count or phase != self.phase:
            self._moved = now
        self._count, self.phase = count, phase

    def step(self, step: int, now: float) -> None:
        """Process the report of a step; earlier reports may be missing."""
        if self._last is None or step > self._last:
            taken = 1 if self._last is None else step - self._last
            if self.steps:
                self._intervals.append((now - self._stepped) / taken)
            self.steps += taken
            self._last, self._stepped = step, now
        self._heard = self._moved = now

    def measure(self, used: float | None, stopped: list[int], now: float) -> None:
        """Process the processor time that it has used so far, and the list of its stopped processes."""
        if used is None or used != self._used:
            self._busy = now
        self._used = used
        self._stopped = {pid: self._stopped.get(pid, now) for pid in stopped}

    @property
    def usual(self) -> float | None:
        """Return the usual seconds of a step, None if unknown."""
        return statistics.median(self._intervals) if self.steps >= _KNOWN else None

    def idle(self, now: float) -> float:
        """Return the seconds without a sign of progress."""
        return now - self._moved

    def frozen(self, now: float) -> bool:
        """Return whether it does not answer: it was silent for too long, and used no processor time."""
        limit = self.limits.silent
        return limit > 0 and now - max(self._heard, self._busy) >= limit

    def stopped(self, now: float) -> int | None:
        """Return one of its processes that was stopped for too long without progress."""
        limit = self.limits.silent
        if limit <= 0 or self.idle(now) < limit:
            return None
        return next((pid for pid, since in self._stopped.items() if now - since >= limit), None)

    @property
    def limit(self) -> float:
        """Return the longest time without a sign of progress now, in seconds; 0 for ever."""
        if self.phase != Phase.STEP:
            return self.limits.of(self.phase)
        usual = self.usual
        if usual is None:
            return self.limits.start
        return max(self.limits.step, self.limits.times * usual) if self.limits.step else 0.0

    def overdue(self, now: float) -> bool:
        """Return whether it has made no progress for longer than the limit."""
        return 0 < self.limit <= self.idle(now)

    def standing(self, now: float) -> str:
        """Return the time without a step and the usual time of a step, in words."""
        usual = self.usual
        known = "none was taken in this round" if not self.steps else "only a few were taken in this round"
        return f"no step for {now - self._stepped:.0f} s ({known if usual is None else f'usual: {usual:.1f} s'})"
