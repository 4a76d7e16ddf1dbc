"""The messages of an agent and the coordinator: a pulse one way, a view the other, as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

LONGEST = 1 << 18
"""Most bytes of a body; a longer one is refused unread. A round of a thousand nodes takes half of it."""

_LONGEST_TEXT = 4000  # most characters of a reason


class AgentState(StrEnum):
    """The activity of an agent."""

    PREPARING = "preparing"  # its processes load their libraries; it will ask for a round
    WAITING = "waiting"  # it asks for a round after the last one that it took part in
    RUNNING = "running"  # its processes train in a round
    DONE = "done"  # its processes of the round have ended successfully
    LEAVING = "leaving"  # it was asked to leave; its processes save and end
    GONE = "gone"  # it sends no more pulses


@dataclass(frozen=True)
class Member:
    """An agent's description for its peers; `port` is free on its address for the processes' store."""

    agent: str
    node: str
    address: str
    port: int
    processes: int


@dataclass(frozen=True)
class Round:
    """Members that train together, in the order of their ranks; numbers only grow."""

    number: int
    members: tuple[Member, ...]

    @property
    def processes(self) -> int:
        return sum(member.processes for member in self.members)

    def place(self, agent: str) -> int | None:
        """Return an agent's place among the members, or None if it is not a member."""
        return next((i for i, member in enumerate(self.members) if member.agent == agent), None)

    def first_rank(self, place: int) -> int:
        """Return the rank of the first process of a member."""
        return sum(member.processes for member in self.members[:place])


@dataclass(frozen=True)
class Failure:
    """The failure of a process in a round; with `peer` or `killed` the mistake was probably not its own."""

    rank: int
    reason: str
    peer: bool = False  # it lost the connection to another process
    killed: bool = False  # a signal killed it, for example when memory runs out


@dataclass(frozen=True)
class Verdict:
    """The reason why the job has failed for good; `user` if it is a mistake that the user can correct."""

    reason: str
    user: bool = False


@dataclass(frozen=True)
class Bounds:
    """The size of a job and its patience; equal on all agents."""

    least: int
    most: int
    gather: float = 15.0  # seconds at the start of the job to wait for more nodes than the least
    tolerance: int = 10  # failures in a row without a step between them


@dataclass(frozen=True)
class Pulse:
    """An agent's report, about three times a second."""

    job: str
    command: str  # digest of the command: agents of one job run one command
    member: Member
    bounds: Bounds
    state: AgentState
    round: Round | None = None  # the last round that it took part in
    stepped: bool = False  # its processes have taken a step in that round
    reached: int | None = None  # the furthest step of any round
    failure: Failure | None = None  # failure in that round
    finished: bool = False  # the training is complete
    failed: Verdict | None = None
    limit: int | None = None  # most processes that the training can use
    overdue: bool = False  # all its processes have made no progress for longer than the limit
    written: bool = False  # it leaves, and its processes do not write to the run any more
    batch: int | None = None  # samples of a step, over all processes

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, body: bytes) -> "Pulse":
        """Read a pulse.

        Raises:
            ValueError: it is not one.
        """
        try:
            fields = json.loads(body)
            return cls(
                job=str(fields["job"]),
                command=str(fields["command"]),
                member=_member(fields["member"]),
                bounds=Bounds(**fields["bounds"]),
                state=AgentState(fields["state"]),
                round=_round(fields.get("round")),
                stepped=bool(fields.get("stepped")),
                reached=None if fields.get("reached") is None else int(fields["reached"]),
                failure=Failure(**_cut(fields["failure"])) if fields.get("failure") else None,
                finished=bool(fields.get("finished")),
                failed=Verdict(**_cut(fields["failed"])) if fields.get("failed") else None,
                limit=None if fields.get("limit") is None else int(fields["limit"]),
                overdue=bool(fields.get("overdue")),
                written=bool(fields.get("written")),
                batch=None if fields.get("batch") is None else int(fields["batch"]),
            )
        except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a pulse: {error!r}") from None


@dataclass(frozen=True)
class JobView:
    """The coordinator's answer: the state of the job."""

    coordinator: str = ""  # id of the coordinator; another id is a new process without memory
    round: Round | None = None  # the newest round
    broken: bool = False  # a member is lost, has failed or has left: the round cannot go on
    lost: tuple[str, ...] = ()  # nodes that died in this round
    joining: int = 0  # number of agents to be admitted now
    waiting: int = 0  # number of agents that ask for a round
    reached: int | None = None
    finished: bool = False
    failed: Verdict | None = None
    bounds: Bounds = field(default_factory=lambda: Bounds(1, 1))
    room: int = 1  # most nodes of a round: the upper bound, or as many as the training can use
    stuck: bool = False  # no running member makes progress, and each is over its limit

    @property
    def training(self) -> tuple[Member, ...]:
        """Return the members that train now; empty if the newest round cannot go on or the job is over."""
        return self.round.members if self.round and not (self.broken or self.finished or self.failed) else ()

    def ends(self, round: Round) -> bool:
        """Return whether a round cannot go on, or the job has gone on with another one."""
        if self.round is None or self.round.number < round.number:
            return False
        return self.round != round or self.broken

    def full_without(self, agent: str) -> bool:
        """Return whether a round of the largest useful size trains without this agent."""
        if self.round is None or self.broken or self.room >= self.bounds.most:
            return False
        return len(self.round.members) >= self.room and self.round.place(agent) is None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, body: bytes) -> "JobView":
        """Read a view.

        Raises:
            ValueError: it is not one.
        """
        try:
            fields = json.loads(body)
            fields["round"] = _round(fields["round"])
            fields["lost"] = tuple(fields["lost"])
            fields["failed"] = Verdict(**fields["failed"]) if fields["failed"] else None
            fields["bounds"] = Bounds(**fields["bounds"])
            return cls(**fields)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"not a view: {error!r}") from None


def _member(fields: Mapping[str, Any]) -> Member:
    return Member(
        agent=str(fields["agent"]),
        node=str(fields["node"]),
        address=str(fields["address"]),
        port=int(fields["port"]),
        processes=int(fields["processes"]),
    )


def _round(fields: Mapping[str, Any] | None) -> Round | None:
    return Round(int(fields["number"]), tuple(_member(member) for member in fields["members"])) if fields else None


def _cut(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**fields, "reason": str(fields["reason"])[:_LONGEST_TEXT]}
