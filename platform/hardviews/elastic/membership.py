"""The membership of rounds: the coordinator's decisions, without clock and without network.

A *round* is a set of agents whose processes train together. The decisions are: when a new round begins and with whom,
which agents are dead, when a running round stops to admit others, and when the job is over. Times are seconds of any
clock that only moves forward.
"""

from dataclasses import dataclass, field

from hardviews.elastic.messages import AgentState, Bounds, Failure, JobView, Pulse, Round, Verdict

STANDING = 20
"""Number of rounds in a row that may fail although each takes steps, if none comes further than the rounds before."""


@dataclass(frozen=True)
class Deadlines:
    """Limits of all waits, in seconds."""

    dead: float = 10.0  # time without a pulse until an agent is dead: a machine under load may be slow
    suspect: float = 1.5  # the same, if another member has failed already
    cut: float = 0.7  # the same, if its connection was closed: a living process opens another one
    silent: float = 3.0  # time for a chosen member to take up the round
    stale: float = 1.5  # a waiting agent is not chosen after this time without a pulse
    settle: float = 0.5  # time without an arrival until the first round begins with fewer nodes than the most
    join: float = 2.0  # time without an arrival until a running round is interrupted for waiting agents
    join_at_most: float = 10.0  # the same at most, counted from the first arrival
    work: float = 20.0  # a round without a step is not interrupted before this time
    takeover: float = 5.0  # wait of a new coordinator for the members of a round that an agent reports
    leave: float = 10.0  # time for a leaving agent to end its processes


@dataclass
class _Agent:
    """The state of one agent."""

    pulse: Pulse
    heard: float
    arrived: float  # time at which it began to wait for a round
    left: float = 0.0  # time at which it began to leave
    cut: float | None = None  # time at which its connection was closed
    believed: bool = False  # known from another agent only


@dataclass
class _Present:
    """The newest round and its events."""

    round: Round
    formed: float
    stepped: bool = False  # a step was taken in it
    taken_up: set[str] = field(default_factory=set)  # agents that have reported it
    lost: list[str] = field(default_factory=list)  # lost agents
    failures: list[Failure] = field(default_factory=list)
    troubled: float | None = None  # time since which it cannot go on
    over: bool = False


class Membership:
    """The state of one job: receives pulses, answers with views."""

    def __init__(self, coordinator: str, now: float, patience: Deadlines | None = None) -> None:
        self.patience = patience or Deadlines()
        self.finished = False
        self.failed: Verdict | None = None
        self.adopted = False  # an earlier coordinator has formed a round
        self.bounds = Bounds(1, 1)
        self.reached: int | None = None
        self.limit: int | None = None  # most processes that the training can use
        self.batch: int | None = None  # samples of a step
        self.news: list[str] = []  # sentences for the log
        self._coordinator = coordinator
        self._agents: dict[str, _Agent] = {}
        self._present: _Present | None = None
        self._enough: float | None = None  # time since which enough agents wait for the first round
        self._streak = 0  # rounds in a row that failed without a step
        self._standing = 0  # rounds in a row that failed without a step beyond the earlier rounds
        self._furthest = -1  # furthest step

    def hear(self, pulse: Pulse, now: float) -> JobView:
        """Process an agent's pulse; return the state of the job."""
        name = pulse.member.agent
        known = self._agents.get(name)
        self.bounds = pulse.bounds
        self._supersede(pulse, now)
        arrived = known.arrived if known and known.pulse.state == pulse.state else now
        left = known.left if known and known.pulse.state == pulse.state else now
        self._agents[name] = _Agent(pulse, now, arrived, left)
        if pulse.reached is not None:
            self.reached = max(pulse.reached, self.reached or 0)
        if pulse.limit is not None:
            self.limit = pulse.limit
        if pulse.batch is not None:
            self.batch = pulse.batch
        self._adopt(pulse, now)
        self._note(pulse)
        self.finished = self.finished or pulse.finished
        if pulse.failed and not self.finished:
            self.failed = self.failed or pulse.failed
        self.tick(now)
        if pulse.state == AgentState.GONE:
            self._remove(name)
            self.tick(now)
        return self.view(now)

    def disconnected(self, agent: str, now: float) -> None:
        """Note that an agent's connection was closed from the other side."""
        if agent in self._agents and self._agents[agent].cut is None:
            self._agents[agent].cut = now

    def tick(self, now: float) -> None:
        """Make the decisions that depend on time alone."""
        self._bury(now)
        present = self._present
        if present and not present.over:
            if present.troubled is None and self._trouble(present):
                present.troubled = now
            if self._is_over(present, now):
                present.over = True
                self._judge(present)
        if not self.finished and self.failed is None and (present is None or present.over):
            self._form(now)

    def view(self, now: float) -> JobView:
        """Return the state of the job."""
        present = self._present
        waiting = self._waiting(now)
        return JobView(
            coordinator=self._coordinator,
            round=present.round if present else None,
            broken=present is not None and self._broken(present),
            lost=tuple(_node(present.round, agent) for agent in present.lost) if present else (),
            joining=self._joining(waiting, now),
            waiting=len(waiting),
            reached=self.reached,
            finished=self.finished,
            failed=self.failed,
            bounds=self.bounds,
            room=self._room(),
            stuck=present is not None and self._stuck(present),
        )

    def heard(self, now: float, within: float) -> int:
        """Return the number of agents with a recent pulse that have not gone."""
        return sum(now - agent.heard <= within for agent in self._agents.values())

    @property
    def over(self) -> bool:
        return self.finished or self.failed is not None

    def _supersede(self, pulse: Pulse, now: float) -> None:
        """Replace a dead agent of a node by the one that starts there."""
        for name, other in list(self._agents.items()):
            same = other.pulse.member.node == pulse.member.node and name != pulse.member.agent
            if same and (other.cut is not None or now - other.heard > self.patience.cut):
                self._lose(name)

    def _adopt(self, pulse: Pulse, now: float) -> None:
        """Take over a round that an earlier coordinator formed: the agents have gone on with it meanwhile."""
        reported = pulse.round
        if reported is None or (self._present and self._present.round.number >= reported.number):
            return
        self._present = _Present(reported, now)
        self.adopted = True
        self._enough = None
        for member in reported.members:
            if member.agent not in self._agents:
                believed = Pulse(pulse.job, pulse.command, member, pulse.bounds, AgentState.RUNNING, reported)
                self._agents[member.agent] = _Agent(believed, now, now, believed=True)
            self._present.taken_up.add(member.agent)

    def _note(self, pulse: Pulse) -> None:
        """Note a member's report about the present round."""
        present = self._present
        if present is None or pulse.round is None or pulse.round.number != present.round.number:
            return
        present.taken_up.add(pulse.member.agent)
        present.stepped = present.stepped or pulse.stepped
        if pulse.failure and pulse.failure not in present.failures:
            present.failures.append(pulse.failure)
            if not pulse.failure.peer:
                self.news.append(
                    f"round {present.round.number} ends: on {pulse.member.node}, rank {pulse.failure.rank} failed: "
                    f"{pulse.failure.reason}"
                )

    def _bury(self, now: float) -> None:
        """Drop the dead agents; those that only waited leave no news."""
        present = self._present
        suspicion = present is not None and not present.over and self._trouble(present)
        for name, agent in list(self._agents.items()):
            silence = now - agent.heard
            member = present is not None and not present.over and present.round.place(name) is not None
            limit = self.patience.dead
            if agent.believed:
                limit = self.patience.takeover
            elif member and present is not None:
                if suspicion:
                    limit = min(limit, self.patience.suspect)
                if name not in present.taken_up:
                    limit = min(limit, self.patience.silent)
            if agent.cut is not None:
                limit = min(limit, self.patience.cut)
            if silence > limit:
                self._lose(name)

    def _lose(self, name: str) -> None:
        present = self._present
        if present and not present.over and present.round.place(name) is not None:
            state = self._agents[name].pulse.state
            if not self._out(present, name) and state != AgentState.LEAVING and name not in present.lost:
                present.lost.append(name)
                self.news.append(f"round {present.round.number} ends: {_node(present.round, name)} is lost")
        self._remove(name)

    def _remove(self, name: str) -> None:
        self._agents.pop(name, None)

    def _out(self, present: _Present, name: str) -> bool:
        """Return whether a member has no process left in the round."""
        agent = self._agents.get(name)
        if agent is None:
            return True
        pulse = agent.pulse
        idle = pulse.state in (AgentState.WAITING, AgentState.PREPARING)
        return idle and pulse.round is not None and pulse.round.number >= present.round.number

    def _trouble(self, present: _Present) -> bool:
        """Return whether a member has failed, been lost, or gone: members that are silent now are suspect."""
        return bool(present.failures or present.lost) or any(
            self._out(present, member.agent) for member in present.round.members
        )

    def _broken(self, present: _Present) -> bool:
        """Return whether a running member cannot go on, because another member is missing."""
        if self.over:
            return False
        return present.over or self._trouble(present)

    def _is_over(self, present: _Present, now: float) -> bool:
        """Return whether no member has a process in the round any more that could disturb the next round."""
        for member in present.round.members:
            if self._out(present, member.agent):
                continue
            agent = self._agents[member.agent]
            late = present.troubled is not None and now - max(agent.left, present.troubled) > self.patience.leave
            if not (agent.pulse.state == AgentState.LEAVING and (late or agent.pulse.written)):
                return False
        return True

    def _stuck(self, present: _Present) -> bool:
        """Return whether no member makes progress any more, although none has failed.

        A member that waits for its data makes the others wait in the middle of a step. So all must be overdue.
        """
        if present.over or self._broken(present):
            return False
        agents = [self._agents[member.agent] for member in present.round.members if member.agent in self._agents]
        running = [agent.pulse for agent in agents if agent.pulse.state != AgentState.DONE]
        return bool(running) and all(pulse.state == AgentState.RUNNING and pulse.overdue for pulse in running)

    def _judge(self, present: _Present) -> None:
        """Give up after a round, if failures follow each other without progress."""
        if self.over:
            return
        if present.stepped:
            self._streak = 0
        if not present.failures or present.lost:
            return
        if not present.stepped:
            self._streak += 1
        reached = -1 if self.reached is None else self.reached
        self._standing = 1 if reached > self._furthest else self._standing + 1
        self._furthest = max(reached, self._furthest)
        own = [failure for failure in present.failures if not failure.peer] or present.failures
        # A killed process, for example by lack of memory, may succeed later or elsewhere; a mistake in the code stays.
        limit = max(self.bounds.tolerance, 10) if own[0].killed else self.bounds.tolerance
        if self._streak >= limit:
            self.failed = Verdict(
                f"rank {own[0].rank} failed {self._streak} times in a row without a step between: {own[0].reason}"
            )
        elif self._standing >= STANDING and reached >= 0:
            self.failed = Verdict(
                f"{self._standing} rounds in a row failed, and none came further than step {reached}; the last time "
                f"rank {own[0].rank}: {own[0].reason}"
            )

    def _waiting(self, now: float) -> list[_Agent]:
        """Return the agents that ask for a round and had a recent pulse, members of the last round first."""
        present = self._present
        found = [
            agent
            for agent in self._agents.values()
            if agent.pulse.state == AgentState.WAITING
            and now - agent.heard <= self.patience.stale
            and agent.cut is None
            and (present is None or present.over or present.round.place(agent.pulse.member.agent) is None)
        ]

        def order(agent: _Agent) -> tuple[int, float, str]:
            place = present.round.place(agent.pulse.member.agent) if present else None
            last = len(present.round.members) if present else 0
            return (last if place is None else place, agent.arrived, agent.pulse.member.node)

        return sorted(found, key=order)

    def _room(self) -> int:
        """Return the number of nodes that a round may have: as many as the training can use, but at least the least.

        If even the least number is too large, the training process reports it, and the job ends with its message.
        """
        if self.limit is None:
            return self.bounds.most
        processes = max((agent.pulse.member.processes for agent in self._agents.values()), default=1)
        return max(self.bounds.least, min(self.bounds.most, self.limit // processes))

    def _preparing(self, now: float) -> bool:
        """Return whether an agent is about to come."""
        return any(
            agent.pulse.state == AgentState.PREPARING and now - agent.heard <= self.patience.stale
            for agent in self._agents.values()
        )

    def _form(self, now: float) -> None:
        """Begin a round, if enough agents ask for one and there is nothing to wait for."""
        waiting = self._waiting(now)
        least, most = self.bounds.least, self._room()
        if len(waiting) < least:
            self._enough = None
            return
        if self._enough is None:
            self._enough = now
        # Later rounds begin at once: all living members of the last round are here by then.
        if self._present is None and len(waiting) < most:
            last = max(agent.arrived for agent in waiting)
            waited = now - self._enough
            late = self._preparing(now) and waited < 4 * self.bounds.gather
            if now - last < self.patience.settle or waited < self.bounds.gather or late:
                return
        number = self._present.round.number + 1 if self._present else 1
        members = tuple(agent.pulse.member for agent in waiting[:most])
        self._present = _Present(Round(number, members), now)
        self._enough = None

    def _joining(self, waiting: list[_Agent], now: float) -> int:
        """Return the number of agents that the running round must admit now."""
        present = self._present
        if present is None or present.over or self.over or not waiting or self._broken(present):
            return 0
        room = self._room() - len(present.round.members)
        worked = present.stepped or now - present.formed > self.patience.work
        if room <= 0 or not worked:
            return 0
        first = min(agent.arrived for agent in waiting)
        last = max(agent.arrived for agent in waiting)
        settled = now - last >= self.patience.join and not (self._preparing(now) and len(waiting) < room)
        return min(room, len(waiting)) if settled or now - first >= self.patience.join_at_most else 0


def _node(round: Round, agent: str) -> str:
    return next(member.node for member in round.members if member.agent == agent)
