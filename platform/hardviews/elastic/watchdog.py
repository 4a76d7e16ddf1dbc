"""When a training process counts as standing still: by its own words, by its steps, and by the processor time it uses.

A process *beats*: a thread of it says every second that it lives, and in which phase it is. A process that is stopped
says nothing. A process that waits for ever beats on, but takes no step and enters no other phase.
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
"""Environment variable: limits in place of the usual ones, as in `silent=60,step=300`; `off`: no limit."""

_KNOWN = 3  # steps of a round from which on the usual time of a step is known
_REMEMBERED = 64  # steps
_GAP = 5.0  # seconds between two looks after which it was the agent that stood still


@dataclass(frozen=True)
class Limits:
    """How long a training process may stand still; seconds, 0 for ever.

    Attributes:
        silent: it says nothing and uses no processor time, or it or a process of its is stopped.
        step: between two steps, at least.
        times: between two steps, at least so many times the usual step.
        data: it waits for its next batch: a minute longer than a store that is away is waited for (HARDVIEWS_PATIENCE).
        start: from its beginning to its first steps.
        epoch: between two batches that a method looks at before an epoch, or the monitor between two steps.
        compile: torch.compile makes one graph.
        save: it saves before it leaves or ends.
        end: after the last save.
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
        with suppress(UserError):  # whoever waits for the store reports it
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
        """Return how long a phase may last."""
        return float(getattr(self, phase.value))


class Watch:
    """One process as its agent hears it; the caller gives the time, in seconds of a clock that moves forward."""

    def __init__(self, limits: Limits, now: float) -> None:
        """Begin with a process that was just started."""
        self.limits = limits
        self.phase = Phase.START
        self.steps = 0  # of this round
        self._heard = self._moved = self._stepped = self._looked = self._busy = now
        self._used: float | None = None
        self._count = -1  # of its signs of progress
        self._last: int | None = None  # step
        self._intervals: deque[float] = deque(maxlen=_REMEMBERED)
        self._stopped: dict[int, float] = {}  # processes that are stopped, and since when

    def look(self, now: float) -> None:
        """Note the time; if the agent has stood still itself, with the machine perhaps, nothing is to blame for it."""
        gap = now - self._looked
        self._looked = now
        if gap > _GAP:
            self._heard, self._moved = self._heard + gap, self._moved + gap
            self._stepped, self._busy = self._stepped + gap, self._busy + gap
            self._stopped = {pid: since + gap for pid, since in self._stopped.items()}

    def hear(self, phase: Phase, count: int, now: float) -> None:
        """Take in a beat: the phase, and how many signs of progress there were so far."""
        self._heard = now
        if count != self._count or phase != self.phase:
            self._moved = now
        self._count, self.phase = count, phase

    def step(self, step: int, now: float) -> None:
        """Take in that a step was taken; some may not have been heard of."""
        if self._last is None or step > self._last:
            taken = 1 if self._last is None else step - self._last
            if self.steps:
                self._intervals.append((now - self._stepped) / taken)
            self.steps += taken
            self._last, self._stepped = step, now
        self._heard = self._moved = now

    def measure(self, used: float | None, stopped: list[int], now: float) -> None:
        """Take in the processor time that it has used so far, and which of its processes are stopped."""
        if used is None or used != self._used:
            self._busy = now
        self._used = used
        self._stopped = {pid: self._stopped.get(pid, now) for pid in stopped}

    @property
    def usual(self) -> float | None:
        """Seconds that a step usually takes, None while that is not known."""
        return statistics.median(self._intervals) if self.steps >= _KNOWN else None

    def idle(self, now: float) -> float:
        """Return the seconds without a sign of progress."""
        return now - self._moved

    def frozen(self, now: float) -> bool:
        """Return whether it does not answer: nothing was heard of it for too long, and it did nothing meanwhile."""
        limit = self.limits.silent
        return limit > 0 and now - max(self._heard, self._busy) >= limit

    def stopped(self, now: float) -> int | None:
        """Return a process of its that was stopped for too long while it made no progress."""
        limit = self.limits.silent
        if limit <= 0 or self.idle(now) < limit:
            return None
        return next((pid for pid, since in self._stopped.items() if now - since >= limit), None)

    @property
    def limit(self) -> float:
        """Seconds that it may be without a sign of progress now; 0 for ever."""
        if self.phase != Phase.STEP:
            return self.limits.of(self.phase)
        usual = self.usual
        if usual is None:
            return self.limits.start
        return max(self.limits.step, self.limits.times * usual) if self.limits.step else 0.0

    def overdue(self, now: float) -> bool:
        """Return whether it has made no progress for longer than it may."""
        return 0 < self.limit <= self.idle(now)

    def standing(self, now: float) -> str:
        """Say how long no step was taken, and how long one takes usually."""
        usual = self.usual
        known = "none was taken in this round" if not self.steps else "only a few were taken in this round"
        return f"no step for {now - self._stepped:.0f} s ({known if usual is None else f'usual: {usual:.1f} s'})"
