"""One line now and then on the state of a job: a process of the job prints it, `torchx status` reads it.

The coordinator prints the number of nodes that train. An agent prints a line only while the coordinator is away. The
right to read the log of a pod is enough to see the state of the job.
"""

import re
from dataclasses import dataclass

from hardviews.elastic.messages import JobView

EVERY = 30.0
"""Seconds between two lines while steps are taken; twice as many while nothing changes."""

AWAY = 20.0
"""Seconds without the coordinator after which an agent begins to print lines."""

_LINE = re.compile(
    r"standing: (?:(?P<nodes>\d+) nodes? with (?P<processes>\d+) process(?:es)? runs?|nothing trains); "
    r"(?:(?P<waiting>\d+) waits?, (?P<least>\d+) needed; )?"
    r"(?P<alone>no coordinator; )?"
    r"(?:step (?P<step>\d+)|no step)(?:, (?P<idle>\d+) s ago)?$"
)


@dataclass(frozen=True)
class Standing:
    """The state of a job.

    Attributes:
        nodes: number of nodes that train; 0 if nothing trains.
        processes: number of processes on these nodes.
        waiting: number of nodes that wait to train.
        least: number of nodes that are needed.
        step: the furthest step of the job.
        idle: seconds since the job reached that step, or since the begin of the process that prints the line.
        alone: whether an agent prints it about its own node while the coordinator is away.
    """

    nodes: int
    processes: int
    step: int | None
    idle: float
    waiting: int = 0
    least: int = 1
    alone: bool = False

    def __str__(self) -> str:
        if self.nodes:
            train = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
            with_ = "1 process" if self.processes == 1 else f"{self.processes} processes"
            text = f"standing: {train} with {with_} run{'s' * (self.nodes == 1)}; "
        else:
            text = "standing: nothing trains; "
        if self.alone:
            text += "no coordinator; "
        else:
            text += f"{self.waiting} wait{'s' * (self.waiting == 1)}, {self.least} needed; "
        return text + (f"step {self.step}" if self.step is not None else "no step") + f", {self.idle:.0f} s ago"

    @classmethod
    def parse(cls, line: str) -> "Standing | None":
        """Read a line; return None if it is not such a line."""
        match = _LINE.search(line.strip())
        if match is None:
            return None
        step = match["step"]
        return cls(
            nodes=int(match["nodes"] or 0),
            processes=int(match["processes"] or 0),
            step=int(step) if step is not None else None,
            idle=float(match["idle"] or 0),
            waiting=int(match["waiting"] or 0),
            least=int(match["least"] or 1),
            alone=match["alone"] is not None,
        )


class Reporter:
    """Decides when a line is due. Times are seconds of any clock that only moves forward."""

    def __init__(self, now: float, every: float = EVERY) -> None:
        self._every = every
        self._printed: Standing | None = None
        self._when = now
        self._step: int | None = None
        self._stepped = now

    def stepped(self, step: int | None, now: float) -> None:
        """Record the present step of the processes."""
        if step is not None and step != self._step:
            self._step, self._stepped = step, now

    def job(self, view: JobView, now: float) -> str | None:
        """Return the coordinator's line, if one is due."""
        self.stepped(view.reached, now)
        members = view.training
        processes = sum(member.processes for member in members)
        least = view.bounds.least
        return self._due(Standing(len(members), processes, self._step, now - self._stepped, view.waiting, least), now)

    def node(self, processes: int, away: float, now: float) -> str | None:
        """Return an agent's line, if one is due.

        Args:
            processes: number of processes on this node.
            away: seconds since the last answer of the coordinator.
            now: the time.
        """
        if away < AWAY:
            self._printed = None
            return None
        nodes = 1 if processes else 0
        return self._due(Standing(nodes, processes, self._step, now - self._stepped, alone=True), now)

    def _due(self, standing: Standing, now: float) -> str | None:
        last = self._printed
        if last is not None and (last.nodes, last.processes) == (standing.nodes, standing.processes):
            wait = self._every if last.step != standing.step else 2 * self._every
            if last.step is None and standing.step is not None:
                wait = 0.0  # the first step
            if now - self._when < wait:
                return None
        self._printed, self._when = standing, now
        return str(standing)
