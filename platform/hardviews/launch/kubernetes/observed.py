"""The objects of a job in the API."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
    """The surroundings of a job, as far as we may read them.

    Attributes:
        events: events of the job, its pod group and its pods.
        nodes: nodes of the cluster, or only the nodes of the job's pods.
        queue: queue of the job.
        group: pod group of the job.
        logs: last lines of some pods, oldest first, by the pod's name; each with its time.
        silent: pods whose node did not answer when their log was read.
        missing: nodes that hold pods of the job and do not exist any more.
        hidden: kinds of objects that we may not read, by their names in a role.
        now: time of the look.
    """

    events: Sequence[Object] = ()
    nodes: Sequence[Object] = ()
    queue: Object | None = None
    group: Object | None = None
    logs: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    hidden: tuple[str, ...] = ()
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def since(self, when: Any) -> str:
        """Return the age of a time in the form "for 95 s"; empty if the time cannot be read."""
        began = seconds(when)
        if began is None:
            return ""
        past = max(0, int(self.now.timestamp() - began))
        if past < 120:
            return f"for {past} s"
        return f"for {past // 60} min" if past < 7200 else f"for {past // 3600} h"

    def about(self, name: str) -> list[Object]:
        """Return the events about one object, newest first."""
        return [event for event in latest(self.events) if event.get("involvedObject", {}).get("name") == name]


@dataclass(frozen=True)
class Replica:
    """One pod of a job."""

    role: str
    number: int
    pod: Object

    @property
    def container(self) -> Object:
        """Status of the container that runs our command; a mesh may have added others."""
        statuses = self.pod.get("status", {}).get("containerStatuses") or [{}]
        ours = self.pod["spec"]["containers"][0].get("name")
        return dict(next((status for status in statuses if status.get("name") == ours), statuses[0]))

    @property
    def waiting(self) -> Object:
        return dict(self.container.get("state", {}).get("waiting") or {})

    @property
    def ended(self) -> Object:
        """The last end of the container; empty if it has never ended."""
        for state in (self.container.get("state", {}), self.container.get("lastState", {})):
            if state.get("terminated"):
                return dict(state["terminated"])
        return {}

    @property
    def restarts(self) -> int:
        return int(self.container.get("restartCount", 0))

    @property
    def name(self) -> str:
        """Name of its pod."""
        return str(self.pod["metadata"]["name"])

    @property
    def node(self) -> str:
        """Node of its pod; empty if there is none."""
        return str(self.pod.get("spec", {}).get("nodeName") or "")

    @property
    def leaving(self) -> bool:
        """Whether its pod was deleted and has not ended yet."""
        return "deletionTimestamp" in self.pod["metadata"]

    @property
    def unplaced(self) -> bool:
        """Whether its pod waits for a node."""
        return self.state == ReplicaState.PENDING and not self.node and not self.leaving

    def condition(self, kind: str) -> Object:
        """Return one of the pod's conditions; empty if it has none of that kind."""
        found = [c for c in self.pod.get("status", {}).get("conditions") or [] if c.get("type") == kind]
        return found[0] if found else {}

    @property
    def state(self) -> ReplicaState:
        status = self.pod.get("status", {})
        if status.get("phase") == "Running" and self.waiting:
            return ReplicaState.PENDING  # between two attempts of its container
        return _PHASES.get(status.get("phase", "Pending"), ReplicaState.UNKNOWN)

    def __str__(self) -> str:
        return f"{self.role}/{self.number}"


def replicas(job: Object, pods: Sequence[Object]) -> list[Replica]:
    """Sort the pods of a job by role and number."""
    order = [role_name(task) for task in job["spec"]["tasks"]]
    found = []
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        number = labels.get(LABEL_REPLICA_ID) or pod["metadata"]["name"].rpartition("-")[2]
        found.append(Replica(labels.get(LABEL_ROLE_NAME, "?"), int(number) if number.isdigit() else 0, pod))
    return sorted(found, key=lambda r: (order.index(r.role) if r.role in order else len(order), r.number))


def phase(job: Object) -> str:
    """Return the phase of a job; empty until Volcano has looked at it."""
    return str(((job.get("status") or {}).get("state") or {}).get("phase", ""))


def role_name(task: Object) -> str:
    """Return the role whose pods a task has."""
    labels = task["template"]["metadata"].get("labels", {})
    return str(labels.get(LABEL_ROLE_NAME, task["name"]))


def number(text: str) -> float:
    """Read an amount in the form of Kubernetes, 250m or 2Gi; return 0 if it is not an amount."""
    match = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(text))
    return float(match[1]) * _UNITS.get(match[2], 1) if match else 0.0


def happened(event: Object) -> str:
    """Return the time of an event's last occurrence."""
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def latest(events: Sequence[Object]) -> Iterator[Object]:
    """Yield events, the newest first."""
    return iter(sorted(events, key=happened, reverse=True))


def seconds(when: Any) -> float | None:
    """Return a time of the API in seconds since 1970; None if it is not one."""
    try:
        return datetime.fromisoformat(str(when)).timestamp()
    except ValueError:
        return None


def names(replicas: Sequence[Replica], most: int = 8) -> str:
    """Return the names of replicas in words; only the first ones if there are many."""
    shown = [str(replica) for replica in replicas[:most]]
    if len(replicas) > most:
        return f"{', '.join(shown)} and {len(replicas) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def paragraph(sentences: Iterable[str]) -> str:
    """Join sentences; a full stop is added to those that end in a line of a log."""
    found = [sentence for sentence in sentences if sentence]
    return " ".join(
        sentence if i == len(found) - 1 or sentence.endswith((".", "!", "?")) else f"{sentence}."
        for i, sentence in enumerate(found)
    )


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(str(text).split())
