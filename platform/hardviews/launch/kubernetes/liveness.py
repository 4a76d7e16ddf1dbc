"""Decides whether a job trains, by the lines that its own processes print about it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from torchx.specs import ReplicaState

from hardviews.elastic.standing import EVERY, Standing
from hardviews.launch.component import HEADS
from hardviews.launch.kubernetes.observed import Object, Replica, Surroundings, names, role_name, seconds

_STALE = 5 * EVERY  # seconds after which a line is out of date
_STALLED = 120.0  # seconds without a new step after which there is a remark
_FRESH = 15.0  # seconds since a step after which an agent is not sure whether it trains


@dataclass(frozen=True)
class Liveness:
    """Whether a job trains, and the sentence about it.

    Attributes:
        trains: whether it trains; None if unknown.
        text: sentence about it; empty if there is nothing to report.
    """

    trains: bool | None = None
    text: str = ""


def coordinator(job: Object, there: Sequence[Replica]) -> tuple[bool, Replica | None]:
    """Return whether the job has a coordinator, and its pod if there is one."""
    for task in job["spec"]["tasks"]:
        command = task["template"]["spec"]["containers"][0].get("command") or []
        if any(head in command for head in HEADS):
            role = role_name(task)
            return True, next((replica for replica in there if replica.role == role), None)
    return False, None


def liveness(job: Object, there: Sequence[Replica], lost: Sequence[Replica], seen: Surroundings) -> Liveness:
    """Return whether a job trains.

    Args:
        job: Volcano's object.
        there: its pods.
        lost: pods among them that cannot be reached.
        seen: surroundings with the lines.
    """
    has, head = coordinator(job, there)
    if not has:
        return Liveness()
    running = [replica for replica in there if replica.state == ReplicaState.RUNNING and replica not in lost]
    if head is not None and head in running:
        return _by_coordinator(_lines(head, seen), seen)
    agents = [replica for replica in running if replica is not head]
    away = [replica for replica in lost if replica is not head]
    return _by_agents(agents, [said[-1] for agent in agents if (said := _lines(agent, seen))], away, seen)


Said = tuple[float, Standing]
"""Age of a line in seconds, and the line."""


def _lines(replica: Replica, seen: Surroundings) -> list[Said]:
    """Return the lines of a pod about the job, oldest first; none if the last one is old."""
    found = []
    for when, text in seen.logs.get(replica.name, ()):
        standing = Standing.parse(text)
        if standing is not None and (at := seconds(when)) is not None:
            found.append((max(0.0, seen.now.timestamp() - at), standing))
    return found if found and found[-1][0] <= _STALE else []


def _by_coordinator(said: Sequence[Said], seen: Surroundings) -> Liveness:
    if not said:
        return Liveness()
    age, last = said[-1]
    if not last.nodes:
        since = age
        for earlier, standing in reversed(said):
            if standing.nodes:
                break
            since = earlier
        waits = "1 node waits" if last.waiting == 1 else f"{last.waiting} nodes wait"
        needed = "1 is needed" if last.least == 1 else f"{last.least} are needed"
        if last.step is None:
            return Liveness(False, f"Nothing trains yet: {waits}, {needed}.")
        return Liveness(False, f"Nothing trains for {_duration(since)}, since step {last.step}: {waits}, {needed}.")
    nodes = "1 node trains" if last.nodes == 1 else f"{last.nodes} nodes train"
    processes = "1 process" if last.processes == 1 else f"{last.processes} processes"
    idle = last.idle + age
    if last.step is None:
        return Liveness(None, f"{_begins(last)}: no step yet for {_duration(idle)}.")
    if idle > _STALLED:
        return Liveness(
            None,
            f"No step beyond {last.step} for {_duration(idle)}, though {last.nodes} node{'s' * (last.nodes > 1)} should"
            " train: a process hangs or waits for data, or lost steps are run again. torchx log shows more.",
        )
    return Liveness(True, f"{nodes} with {processes}; step {last.step}.")


def _begins(standing: Standing) -> str:
    return "1 node begins" if standing.nodes == 1 else f"{standing.nodes} nodes begin"


def _by_agents(
    agents: Sequence[Replica], said: Sequence[Said], lost: Sequence[Replica], seen: Surroundings
) -> Liveness:
    """Return the result from the lines of the agents, each about its own node, while the coordinator is away."""
    if not agents:
        return Liveness(False, "Nothing trains: no trainer runs.")
    alone = [(age, standing) for age, standing in said if standing.alone]
    step = max((standing.step for _, standing in alone if standing.step is not None), default=None)
    if any(standing.nodes and standing.idle <= _FRESH for _, standing in alone):
        at = f" (step {step})" if step is not None else ""
        return Liveness(True, f"Training goes on without the coordinator{at}; a trainer that is lost now ends it.")
    if len(alone) < len(said) or not alone:
        return Liveness(None, "Without the coordinator no node can join, and a trainer that is lost ends the training.")
    idle = _duration(min(standing.idle + age for age, standing in alone))
    since = f", since step {step}" if step is not None else ""
    if not any(standing.nodes for _, standing in alone):
        return Liveness(False, f"Nothing trains for {idle}{since}: {names(agents)} cannot reach the coordinator.")
    if lost:
        verb = "waits" if len(agents) == 1 else "wait"
        return Liveness(
            False,
            f"Nothing trains for {idle}{since}: {names(agents)} {verb} for {names(lost)}, which cannot be reached.",
        )
    return Liveness(None, f"No step for {idle}{since}, and the coordinator is away.")


def _duration(past: float) -> str:
    if past < 120:
        return f"{past:.0f} s"
    return f"{past / 60:.0f} min" if past < 7200 else f"{past / 3600:.0f} h"
