"""Notes of a job's processes about themselves (HARDVIEWS_TIMELINE), and the phases of a recovery in them."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOTICED = ("peer_lost", "worker_failed", "rendezvous_began")
PHASES = ("noticed", "rendezvous", "imports", "join", "restore", "first step")


@dataclass(frozen=True)
class Event:
    """A process noted something; `time` in seconds of the wall clock, `who` names the process."""

    time: float
    event: str
    who: str
    fields: dict[str, Any] = field(repr=False)

    @property
    def step(self) -> int:
        return int(self.fields["step"])


def parse(lines: Iterable[str], place: str = "") -> list[Event]:
    """Return the events among lines of text; `place` (a pod) distinguishes equal process ids."""
    found = []
    for line in lines:
        start = line.find('{"time"')
        if start < 0:
            continue
        try:
            told = json.loads(line[start:])
        except ValueError:
            continue  # cut by something else that was said
        found.append(Event(told["time"], told["event"], f"{place}{told['pid']}", told))
    return found


class Tail:
    """The events in a file that grows; each line is read once, for whoever watches takes time from whom is watched."""

    def __init__(self, path: Path, place: str = "") -> None:
        self.path, self.place = path, place
        self._offset = 0
        self._events: list[Event] = []

    def events(self) -> list[Event]:
        """Return all events so far."""
        if self.path.exists():
            with self.path.open("rb") as stream:
                stream.seek(self._offset)
                whole = stream.read().rpartition(b"\n")
            self._offset += len(whole[0]) + len(whole[1])
            self._events += parse(whole[0].decode(errors="replace").splitlines(), self.place)
        return self._events


def by_time(events: Iterable[Event]) -> list[Event]:
    """Return events in the order in which they happened."""
    return sorted(events, key=lambda event: event.time)


@dataclass(frozen=True)
class Trainer:
    """A process that joined a round: who it is, its rank among how many, and when."""

    who: str
    rank: int
    world: int
    since: float


def training(events: Sequence[Event], living: Callable[[str], bool], steps: int = 2) -> list[Trainer]:
    """Return the processes that train now, by rank, each of which has taken a few steps."""
    found = {}
    for event in events:
        if event.event == "joined":
            found[event.who] = Trainer(event.who, event.fields["rank"], event.fields["world"], event.time)
    taken = {who: sum(e.event == "step" and e.who == who for e in events) for who in found}
    return sorted((t for t in found.values() if taken[t.who] >= steps and living(t.who)), key=lambda t: t.rank)


@dataclass(frozen=True)
class Recovery:
    """From a kill to the first step afterwards: seconds altogether and by phase, and the steps taken again.

    A phase is None if the job does not report it; the next reported phase includes it.
    """

    rank: int
    seconds: float
    phases: dict[str, float | None]
    again: int
    world: int


def recovery(events: Sequence[Event], killed: float, rank: int, gone: Callable[[str], bool]) -> Recovery | None:
    """Return how the job recovered from a kill at a time, None if it has not taken a step since.

    The step counts that a process took which joined after the kill: one that was on its way when a peer was killed
    may still be finished.
    """
    after = [event for event in events if event.time > killed and not gone(event.who)]
    joined = {event.who: event for event in after if event.event == "joined"}
    first = next((event for event in after if event.event == "step" and event.who in joined), None)
    if first is None:
        return None
    who = first.who
    own = [event for event in after if event.who == who and event.time <= first.time]
    node = first.fields.get("node")
    agents = [e for e in after if node is not None and e.fields.get("node") == node and e.time <= joined[who].time]
    marks = {
        "noticed": min((e.time for e in after if e.event in NOTICED and e.fields.get("node") == node), default=None)
        if agents
        else None,
        "rendezvous": max((e.time for e in agents if e.event == "rendezvous_done"), default=None),
        "imports": max((e.time for e in own if e.event == "imported" and e.time <= joined[who].time), default=None),
        "join": joined[who].time,
        "restore": max((e.time for e in own if e.event == "restored"), default=None),
        "first step": first.time,
    }
    phases: dict[str, float | None] = {}
    last = killed
    for name in PHASES:
        at = marks[name]
        phases[name] = None if at is None else at - last
        last = last if at is None else at
    # A pod's processes may take a step or two more before they are gone.
    earlier = [event for event in events if event.event == "step" and event.time < first.time]
    done = max((event.step for event in earlier if event.who not in joined), default=0)
    return Recovery(rank, first.time - killed, phases, max(0, done - first.step + 1), joined[who].fields["world"])
