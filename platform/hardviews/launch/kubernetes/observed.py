"""The objects that a job consists of, as the API shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchx.schedulers.kubernetes_scheduler import LABEL_REPLICA_ID, LABEL_ROLE_NAME
from torchx.specs import ReplicaState

_PHASES = {
    "Pending": ReplicaState.PENDING,
    "Running": ReplicaState.RUNNING,
    "Succeeded": ReplicaState.SUCCEEDED,
    "Failed": ReplicaState.FAILED,
}
_UNITS = {
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Surroundings:
    """What is said and known around a job, as far as we may see it.

    Attributes:
        events: about the job, its pod group and its pods.
        nodes: of the cluster.
        queue: the job's.
    """

    events: Sequence[Object] = ()
    nodes: Sequence[Object] = ()
    queue: Object | None = None


@dataclass(frozen=True)
class Replica:
    """One pod of a job."""

    role: str
    number: int
    pod: Object

    @property
    def container(self) -> Object:
        statuses = self.pod.get("status", {}).get("containerStatuses") or [{}]
        return dict(statuses[0])

    @property
    def waiting(self) -> Object:
        return dict(self.container.get("state", {}).get("waiting") or {})

    @property
    def ended(self) -> Object:
        """How the container ended, now or the last time; empty where it never has."""
        for state in (self.container.get("state", {}), self.container.get("lastState", {})):
            if state.get("terminated"):
                return dict(state["terminated"])
        return {}

    @property
    def restarts(self) -> int:
        return int(self.container.get("restartCount", 0))

    @property
    def state(self) -> ReplicaState:
        status = self.pod.get("status", {})
        if status.get("phase") == "Running" and self.waiting:
            return ReplicaState.PENDING  # between two tries of its container
        return _PHASES.get(status.get("phase", "Pending"), ReplicaState.UNKNOWN)

    def __str__(self) -> str:
        return f"{self.role}/{self.number}"


def replicas(job: Object, pods: Sequence[Object]) -> list[Replica]:
    """Sorts the pods of a job by role and number."""
    order = [role_name(task) for task in job["spec"]["tasks"]]
    found = []
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        number = labels.get(LABEL_REPLICA_ID) or pod["metadata"]["name"].rpartition("-")[2]
        found.append(Replica(labels.get(LABEL_ROLE_NAME, "?"), int(number) if number.isdigit() else 0, pod))
    return sorted(found, key=lambda r: (order.index(r.role) if r.role in order else len(order), r.number))


def phase(job: Object) -> str:
    """The phase of a job; empty until Volcano has looked at it."""
    return str(((job.get("status") or {}).get("state") or {}).get("phase", ""))


def role_name(task: Object) -> str:
    """The role whose pods a task has."""
    labels = task["template"]["metadata"].get("labels", {})
    return str(labels.get(LABEL_ROLE_NAME, task["name"]))


def number(text: str) -> float:
    """Reads an amount as Kubernetes writes it, 250m or 2Gi; 0 where it is none."""
    match = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(text))
    return float(match[1]) * _UNITS.get(match[2], 1) if match else 0.0


def latest(events: Sequence[Object]) -> Iterator[Object]:
    """The newest events first."""

    def when(event: Object) -> str:
        return str(event.get("lastTimestamp") or event.get("eventTime") or "")

    return iter(sorted(events, key=when, reverse=True))


def one_line(text: str) -> str:
    """Without line breaks."""
    return " ".join(str(text).split())
