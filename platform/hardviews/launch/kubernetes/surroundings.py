"""Reads the surroundings of a job: events, nodes, queue, pod group, and the last lines of a few logs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from torchx.specs import ReplicaState
from urllib3.exceptions import HTTPError

from hardviews.launch.kubernetes.cluster import GROUPS, QUEUES, ApiRefused, Cluster, Silent
from hardviews.launch.kubernetes.liveness import coordinator
from hardviews.launch.kubernetes.logs import dated
from hardviews.launch.kubernetes.nodes import unreachable
from hardviews.launch.kubernetes.observed import Replica, Surroundings, happened, phase, replicas, seconds

_PODS = 6  # number of pods whose events are read, and of trainers whose log is read
_SINGLE_NODES = 8  # most nodes that are read one by one; more are read as a list
_LINES = "80"  # number of lines of a log
_ENOUGH = 10.0  # seconds for all logs: a dead node answers nothing


def around(cluster: Cluster, namespace: str, job: Mapping[str, Any], pods: Sequence[Any]) -> Surroundings:
    """Read the objects that the state of a job depends on, as far as we may.

    Raises:
        UserError: the cluster does not answer.
    """
    return _Look(cluster, namespace, job, pods).all()


def now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


class _Look:
    def __init__(self, cluster: Cluster, namespace: str, job: Mapping[str, Any], pods: Sequence[Any]) -> None:
        self._cluster, self._home, self._job = cluster, f"/api/v1/namespaces/{namespace}", job
        self._namespace = namespace
        self._there = replicas(job, pods)
        self._hidden: list[str] = []
        self._missing: set[str] = set()

    def all(self) -> Surroundings:
        unplaced = [replica for replica in self._there if replica.unplaced]
        waits = bool(unplaced) or (not self._there and phase(self._job) in ("", "Pending"))
        queue = self._job["spec"].get("queue", "default")
        group = f"{self._job['metadata']['name']}-{self._job['metadata']['uid']}"
        seen = Surroundings(
            events=self._events(group),
            nodes=self._nodes(listed=bool(unplaced)),
            queue=self._read("queues", f"{QUEUES}/{queue}") if waits else None,
            group=self._read("podgroups", f"{GROUPS}/{self._namespace}/podgroups/{group}") if waits else None,
            missing=frozenset(self._missing),
            now=now(),
        )
        logs, silent = self._logs(seen)
        return replace(seen, logs=logs, silent=silent, hidden=tuple(dict.fromkeys(self._hidden)))

    def _read(self, kind: str, path: str, **query: str) -> dict[str, Any]:
        """Read an object if we may: the right to read jobs does not include events, nodes and queues."""
        try:
            return self._cluster.get(path, **query)
        except ApiRefused as error:
            if error.status == 403:
                self._hidden.append(kind)
            return {}

    def _events(self, group: str) -> list[Any]:
        pending = [replica for replica in self._there if replica.state == ReplicaState.PENDING]
        pending.sort(key=lambda replica: not replica.node)  # replicas with a node first
        selectors = [f"involvedObject.name={self._job['metadata']['name']}", f"involvedObject.name={group}"]
        selectors += [f"involvedObject.name={replica.name}" for replica in pending[:_PODS]]
        if self._there:
            selectors.append("reason=Evicted")
        found: list[Any] = []
        for selector in selectors:
            if "events" not in self._hidden:
                found += self._read("events", f"{self._home}/events", fieldSelector=selector).get("items", [])
        # An earlier job may have had the same name.
        began = seconds(self._job["metadata"].get("creationTimestamp")) or 0.0
        return [event for event in found if (seconds(happened(event)) or began) >= began]

    def _nodes(self, listed: bool) -> list[Any]:
        states = (ReplicaState.RUNNING, ReplicaState.PENDING, ReplicaState.UNKNOWN)
        used = sorted({replica.node for replica in self._there if replica.node and replica.state in states})
        if listed or len(used) > _SINGLE_NODES:
            found = list(self._read("nodes", "/api/v1/nodes").get("items", []))
            if "nodes" not in self._hidden:
                self._missing.update(set(used) - {node["metadata"]["name"] for node in found})
            return found
        found = []
        for name in used:
            try:
                found.append(self._cluster.get(f"/api/v1/nodes/{name}"))
            except ApiRefused as error:
                if error.status == 404:
                    self._missing.add(name)
                elif error.status == 403:
                    self._hidden.append("nodes")
                    break
        return found

    def _logs(self, seen: Surroundings) -> tuple[dict[str, list[tuple[str, str]]], frozenset[str]]:
        """Return the last lines of the coordinator or, if it is missing, of some trainers; and the silent pods."""
        has, head = coordinator(self._job, self._there)
        if not has or phase(self._job) not in ("Pending", "Running", "Restarting"):
            return {}, frozenset()
        lost = unreachable(self._there, seen)
        alive = [replica for replica in self._there if replica.state == ReplicaState.RUNNING and replica not in lost]
        found: dict[str, list[tuple[str, str]]] = {}
        silent: set[str] = set()
        deadline = time.monotonic() + _ENOUGH
        if head in alive and self._tail(head, found, silent):
            return found, frozenset()
        for replica in [replica for replica in alive if replica is not head][:_PODS]:
            if "pods/log" not in self._hidden and time.monotonic() < deadline:
                self._tail(replica, found, silent)
        return found, frozenset(silent)

    def _tail(self, replica: Replica, found: dict[str, list[tuple[str, str]]], silent: set[str]) -> bool:
        """Read the end of a pod's log; return whether its node answered."""
        try:
            path = f"{self._home}/pods/{replica.name}/log"
            text = self._cluster.text(path, tailLines=_LINES, timestamps="true")
        except ApiRefused as error:
            if error.status == 403:
                self._hidden.append("pods/log")
            if error.status >= 500:
                silent.add(replica.name)
            return error.status < 500
        except (Silent, HTTPError):
            silent.add(replica.name)
            return False
        found[replica.name] = [(f"{when[:19]}Z", line.rstrip("\n")) for when, line in dated(text.split(b"\n"))]
        return True
