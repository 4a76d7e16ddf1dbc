"""What a job's objects say about it: its state, its replicas', and what is wrong in one message. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from torchx.schedulers.api import DescribeAppResponse
from torchx.schedulers.kubernetes_scheduler import LABEL_REPLICA_ID, LABEL_ROLE_NAME
from torchx.specs import AppState, ReplicaState, ReplicaStatus, Resource, Role, RoleStatus

STATES = {
    "": AppState.SUBMITTED,
    "Pending": AppState.PENDING,
    "Aborting": AppState.RUNNING,
    "Aborted": AppState.CANCELLED,
    "Running": AppState.RUNNING,
    "Restarting": AppState.RUNNING,
    "Completing": AppState.RUNNING,
    "Completed": AppState.SUCCEEDED,
    "Terminating": AppState.RUNNING,
    "Terminated": AppState.FAILED,
    "Failed": AppState.FAILED,
}
"""Every phase of a Volcano job."""

_PHASES = {
    "Pending": ReplicaState.PENDING,
    "Running": ReplicaState.RUNNING,
    "Succeeded": ReplicaState.SUCCEEDED,
    "Failed": ReplicaState.FAILED,
}
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIGURATION = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "ContainerCannotRun")
_SIGNALLED = 128  # exit codes above it: by the signal that many higher

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
_SAID = 5  # lines of a log that stand for it, where the container has left no message

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
    order = [_role_name(task) for task in job["spec"]["tasks"]]
    found = []
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        number = labels.get(LABEL_REPLICA_ID) or pod["metadata"]["name"].rpartition("-")[2]
        found.append(Replica(labels.get(LABEL_ROLE_NAME, "?"), int(number) if number.isdigit() else 0, pod))
    return sorted(found, key=lambda r: (order.index(r.role) if r.role in order else len(order), r.number))


def response(app_id: str, job: Object, pods: Sequence[Object], seen: Surroundings) -> DescribeAppResponse:
    """Answers what TorchX asks about a job.

    Args:
        app_id: the job's, in TorchX's words.
        job: Volcano's object.
        pods: of the job.
        seen: what is around it.
    """
    there = replicas(job, pods)
    status = job.get("status") or {}
    roles = described(job)
    statuses = []
    for role in roles:
        mine = [_replica_status(replica) for replica in there if replica.role == role.name]
        statuses.append(RoleStatus(role.name, mine))
    return DescribeAppResponse(
        app_id=app_id,
        state=STATES.get(phase(job), AppState.UNKNOWN),
        num_restarts=int(status.get("retryCount", 0)),
        msg=diagnose(job, there, seen),
        roles_statuses=statuses,
        roles=roles,
    )


def phase(job: Object) -> str:
    """The phase of a job; empty until Volcano has looked at it."""
    return str(((job.get("status") or {}).get("state") or {}).get("phase", ""))


def _role_name(task: Object) -> str:
    labels = task["template"]["metadata"].get("labels", {})
    return str(labels.get(LABEL_ROLE_NAME, task["name"]))


def described(job: Object) -> list[Role]:
    """The roles of a job, as far as its manifest tells them."""
    found: dict[str, Role] = {}
    for task in job["spec"]["tasks"]:
        name = _role_name(task)
        count, least = int(task.get("replicas", 1)), int(task.get("minAvailable", task.get("replicas", 1)))
        if name in found:
            found[name].num_replicas += count
            found[name].min_replicas = (found[name].min_replicas or 0) + least
            continue
        container = task["template"]["spec"]["containers"][0]
        command = container.get("command") or [""]
        limits = container.get("resources", {}).get("requests", {})
        found[name] = Role(
            name=name,
            image=container.get("image", ""),
            entrypoint=command[0],
            args=list(command[1:]),
            env={entry["name"]: entry.get("value", "") for entry in container.get("env", [])},
            num_replicas=count,
            min_replicas=least,
            resource=Resource(
                cpu=_number(limits.get("cpu", "0"), _UNITS),
                gpu=int(limits.get("nvidia.com/gpu", 0)),
                memMB=int(_number(limits.get("memory", "0"), _UNITS) / 1e6),
            ),
            port_map={port.get("name", ""): port["containerPort"] for port in container.get("ports", [])},
        )
    for role in found.values():
        if role.min_replicas == role.num_replicas:
            role.min_replicas = None
    return list(found.values())


def _number(text: str, units: Mapping[str, float]) -> float:
    match = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(text))
    return float(match[1]) * units.get(match[2], 1) if match else 0.0


def _replica_status(replica: Replica) -> ReplicaStatus:
    status = ReplicaStatus(
        id=replica.number,
        role=replica.role,
        state=replica.state,
        hostname=replica.pod.get("spec", {}).get("nodeName", ""),
    )
    if replica.state == ReplicaState.FAILED:
        # What TorchX prints beside a failed replica, in the form in which it reads it.
        when = replica.ended.get("finishedAt") or replica.pod["metadata"].get("creationTimestamp", "")
        status.structured_error_msg = json.dumps(
            {
                "message": {
                    "message": _one_line(_ending(replica)),
                    "errorCode": replica.ended.get("exitCode", 0),
                    "extraInfo": {"timestamp": str(int(_seconds(when)))},
                }
            }
        )
    return status


def _seconds(when: str) -> float:
    try:
        return datetime.fromisoformat(when).timestamp()
    except ValueError:
        return 0.0


def diagnose(job: Object, there: Sequence[Replica], seen: Surroundings) -> str:
    """Says what is wrong with a job, or what it waits for, in one paragraph; empty where all is well."""
    now = phase(job)
    if now == "Completed":
        return ""
    if now in ("Terminated", "Failed", "Terminating"):
        return _failure(job, there)
    if now in ("Aborted", "Aborting"):
        return "The job was cancelled."
    if now == "Completing":
        return "The training is complete; the remaining pods are stopped."
    for looks in (_image, _configuration, _failing):
        for replica in there:
            if text := looks(replica):
                return text
    return (
        _refused(job, seen.events)
        or _waiting(job, there, seen)
        or _starting(there, seen.events)
        or _restarting(job, there)
    )


def _failure(job: Object, there: Sequence[Replica]) -> str:
    ended = [replica for replica in there if replica.state == ReplicaState.FAILED]
    if ended:
        # The coordinator knows why the job failed; it is the first role.
        return _ending(ended[0])
    retries = int((job.get("status") or {}).get("retryCount", 0))
    again = f", having been restarted {_times(retries)}" if retries else ""
    return f"The job failed{again}; its pods are gone. kubectl describe job.batch.volcano.sh shows its events."


def _ending(replica: Replica, lines: int = _SAID) -> str:
    """Why a replica's container ended, with the last lines that it said."""
    ended, status = replica.ended, replica.pod.get("status", {})
    if ended.get("reason") == "OOMKilled":
        memory = replica.pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory", "its limit")
        return f"{replica} needed more memory than {memory} and was killed. Give more: --memMB."
    if not ended and status.get("reason"):
        return f"{replica} was ended by its node: {status['reason']}: {status.get('message', '')}".rstrip(": ")
    code = int(ended.get("exitCode", 0))
    how = f"was killed by signal {code - _SIGNALLED}" if code > _SIGNALLED else f"ended with exit code {code}"
    said = "\n".join(str(ended.get("message") or "").strip().splitlines()[-lines:])
    return f"{replica} {how}" + (f": {said}" if said else "; torchx log shows what it said.")


def _image(replica: Replica) -> str:
    if replica.waiting.get("reason") not in _IMAGE:
        return ""
    image = replica.container.get("image") or replica.pod["spec"]["containers"][0].get("image")
    why = str(replica.waiting.get("message") or replica.waiting["reason"])
    # The kubelet wraps the registry's answer in everything that it tried.
    for prefix in ("Back-off pulling image", "failed to pull and unpack", "rpc error"):
        if why.startswith(prefix) and ": " in why:
            why = why.split(": ", 1)[1]
    return (
        f"The image {image} of {replica} cannot be pulled: {why.strip()}. See that its name is right, that the cluster "
        "reaches the registry, and whether it wants credentials (-cfg image_pull_secrets=NAME). Then cancel and submit "
        "again."
    )


def _configuration(replica: Replica) -> str:
    if replica.waiting.get("reason") not in _CONFIGURATION:
        return ""
    return f"{replica} cannot start: {replica.waiting.get('message') or replica.waiting['reason']}."


def _failing(replica: Replica) -> str:
    if replica.waiting.get("reason") == "CrashLoopBackOff" or replica.state == ReplicaState.FAILED:
        times = f" It has been restarted {_times(replica.restarts)}." if replica.restarts else ""
        return _ending(replica) + times
    return ""


def _refused(job: Object, events: Sequence[Object]) -> str:
    """What the API or Volcano said against the job's pods."""
    for event in _latest(events):
        if event.get("type") == "Warning" and event.get("reason") in ("FailedCreate", "PluginError", "PodGroupError"):
            text = str(event.get("message", ""))
            inner = re.search(r'Message:"((?:[^"\\]|\\.)*)"', text)
            why = inner[1].replace('\\"', '"') if inner else text
            if phase(job) in ("", "Pending"):
                return f"The cluster refuses the job's pods: {why}"
    return ""


def _waiting(job: Object, there: Sequence[Replica], seen: Surroundings) -> str:
    """Why pods have no node."""
    events = seen.events
    if not there and phase(job) in ("", "Pending"):
        queue = job["spec"].get("queue", "default")
        if full := _full(job, seen.queue, asked=_lacking(job, there)):
            return f"The job waits: {full}"
        for event in _latest(events):
            if event.get("type") == "Warning" or event.get("reason") in ("Unschedulable", "PodGroupPending"):
                return f"The job waits in the queue {queue}: {_one_line(event.get('message', ''))}"
        return f"The job waits in the queue {queue} for its turn."
    pending = [
        replica
        for replica in there
        if replica.state == ReplicaState.PENDING
        and not replica.pod.get("spec", {}).get("nodeName")
        and "deletionTimestamp" not in replica.pod["metadata"]
    ]
    if not pending:
        return ""
    names = ", ".join(map(str, pending))
    running_on = phase(job) == "Running"
    full = _full(job, seen.queue, asked=_asked(pending[0].pod["spec"]) if running_on else _lacking(job, there))
    why = full or _why_unplaced(pending, events, seen.nodes)
    if running_on:
        running = sum(replica.state == ReplicaState.RUNNING for replica in there)
        return f"The job goes on with {running} of {len(there)} pods; no room yet for {names}: {why}"
    least = int(job["spec"].get("minAvailable", 1))
    together = f" {least} pods at once" if least > 1 else " its pod"
    return f"The job waits for room for{together}; no node yet for {names}: {why}"


def _why_unplaced(pending: Sequence[Replica], events: Sequence[Object], nodes: Sequence[Object]) -> str:
    """The scheduler's reason where it names one, else what the pods ask for; of its gangs nobody wants to know."""
    for replica in pending:
        asked = replica.pod["spec"]["containers"][0].get("resources", {}).get("requests", {})
        if lacking := _too_large(asked, nodes):
            return f"{replica} asks for {lacking}."
    names = {replica.pod["metadata"]["name"] for replica in pending}
    said = [_unschedulable(replica) for replica in pending]
    said += [e.get("message", "") for e in _latest(events) if e.get("involvedObject", {}).get("name") in names]
    for text in said:
        if "nodes are" in text or "Insufficient" in text:
            return _one_line(text)
    asked = pending[-1].pod["spec"]["containers"][0].get("resources", {}).get("requests", {})
    amounts = ", ".join(f"{amount} of {name}" for name, amount in sorted(asked.items()))
    return f"no node has {amounts or 'what it asks for'} free now ({pending[-1]} asks for that)."


def _full(job: Object, queue: Object | None, asked: Mapping[str, float]) -> str:
    """Whether a queue's limit is what keeps pods waiting; its objects may not be ours to see."""
    allowed = (queue or {}).get("spec", {}).get("capability") or {}
    used = (queue or {}).get("status", {}).get("allocated") or {}
    for name, limit in allowed.items():
        most, taken = _number(limit, _UNITS), _number(used.get(name, "0"), _UNITS)
        if name in asked and taken + asked[name] > most:
            return (
                f"the queue {job['spec'].get('queue')} allows {most:g} of {name} in all, {taken:g} are in use, and "
                f"{asked[name]:g} more are asked for."
            )
    return ""


def _lacking(job: Object, there: Sequence[Replica]) -> dict[str, float]:
    """What the pods that the job cannot do without, and that have no node yet, ask for together."""
    total: dict[str, float] = {}
    for task in job["spec"]["tasks"]:
        for name, amount in _asked(task["template"]["spec"]).items():
            total[name] = total.get(name, 0.0) + amount * int(task.get("minAvailable", task.get("replicas", 1)))
    for replica in there:
        if replica.pod.get("spec", {}).get("nodeName"):
            for name, amount in _asked(replica.pod["spec"]).items():
                total[name] = total.get(name, 0.0) - amount
    return {name: amount for name, amount in total.items() if amount > 0}


def _asked(pod: Object) -> dict[str, float]:
    requests = pod["containers"][0].get("resources", {}).get("requests", {})
    return {name: _number(amount, _UNITS) for name, amount in requests.items()}


def _too_large(asked: Mapping[str, str], nodes: Sequence[Object]) -> str:
    """Names what no node has even when it is empty."""
    for name, amount in asked.items():
        most = max((_number(node["status"]["allocatable"].get(name, "0"), _UNITS) for node in nodes), default=None)
        if most is not None and _number(amount, _UNITS) > most:
            unit = " MB" if name == "memory" else ""
            least = _number(amount, _UNITS) / (1e6 if unit else 1)
            return f"{least:g}{unit} of {name}, and the largest node has {most / (1e6 if unit else 1):g}{unit} of it"
    return ""


def _starting(there: Sequence[Replica], events: Sequence[Object]) -> str:
    """What keeps containers from starting on their nodes: an image on its way, a volume that is not there."""
    for replica in there:
        if replica.state != ReplicaState.PENDING or not replica.pod.get("spec", {}).get("nodeName"):
            continue
        name, node = replica.pod["metadata"]["name"], replica.pod["spec"]["nodeName"]
        for event in _latest(events):
            if event.get("involvedObject", {}).get("name") != name:
                continue
            if event.get("type") == "Warning":
                return f"{replica} does not start on {node}: {_one_line(event.get('message', ''))}"
            if event.get("reason") == "Pulling":
                return f"{replica} waits for its image on {node}: {_one_line(event.get('message', ''))}"
        return f"{replica} is being started on {node}."
    return ""


def _unschedulable(replica: Replica) -> str:
    for condition in replica.pod.get("status", {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _one_line(condition.get("message", ""))
    return ""


def _restarting(job: Object, there: Sequence[Replica]) -> str:
    if phase(job) == "Restarting":
        return "The coordinator was lost; the job's pods save, end and start again."
    again = [replica for replica in there if replica.restarts]
    if again:
        counts = ", ".join(f"{replica} {_times(replica.restarts)}" for replica in again)
        return f"Running. Containers were restarted before, {counts}; the last time {_ending(again[-1], lines=1)}"
    return ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _latest(events: Sequence[Object]) -> Iterator[Object]:
    def when(event: Object) -> str:
        return str(event.get("lastTimestamp") or event.get("eventTime") or "")

    return iter(sorted(events, key=when, reverse=True))


def _one_line(text: str) -> str:
    return " ".join(str(text).split())
