"""What a job's objects say about it: its state, its replicas', and what is wrong in one message. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime

from torchx.schedulers.api import DescribeAppResponse
from torchx.specs import AppState, ReplicaState, ReplicaStatus, Resource, Role, RoleStatus

from hardviews.launch.kubernetes.observed import (
    Object,
    Replica,
    Surroundings,
    latest,
    number,
    one_line,
    phase,
    replicas,
    role_name,
)
from hardviews.launch.kubernetes.room import waiting

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

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIGURATION = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "ContainerCannotRun")
_SIGNALLED = 128  # exit codes above it: by the signal that many higher

_SAID = 5  # lines of a log that stand for it, where the container has left no message


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


def described(job: Object) -> list[Role]:
    """The roles of a job, as far as its manifest tells them."""
    found: dict[str, Role] = {}
    for task in job["spec"]["tasks"]:
        name = role_name(task)
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
                cpu=number(limits.get("cpu", "0")),
                gpu=int(limits.get("nvidia.com/gpu", 0)),
                memMB=int(number(limits.get("memory", "0")) / 1e6),
            ),
            port_map={port.get("name", ""): port["containerPort"] for port in container.get("ports", [])},
        )
    for role in found.values():
        if role.min_replicas == role.num_replicas:
            role.min_replicas = None
    return list(found.values())


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
                    "message": one_line(_ending(replica)),
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
        or waiting(job, there, seen)
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
    for event in latest(events):
        if event.get("type") == "Warning" and event.get("reason") in ("FailedCreate", "PluginError", "PodGroupError"):
            text = str(event.get("message", ""))
            inner = re.search(r'Message:"((?:[^"\\]|\\.)*)"', text)
            why = inner[1].replace('\\"', '"') if inner else text
            if phase(job) in ("", "Pending"):
                return f"The cluster refuses the job's pods: {why}"
    return ""


def _starting(there: Sequence[Replica], events: Sequence[Object]) -> str:
    """What keeps containers from starting on their nodes: an image on its way, a volume that is not there."""
    for replica in there:
        if replica.state != ReplicaState.PENDING or not replica.pod.get("spec", {}).get("nodeName"):
            continue
        name, node = replica.pod["metadata"]["name"], replica.pod["spec"]["nodeName"]
        for event in latest(events):
            if event.get("involvedObject", {}).get("name") != name:
                continue
            if event.get("type") == "Warning":
                return f"{replica} does not start on {node}: {one_line(event.get('message', ''))}"
            if event.get("reason") == "Pulling":
                return f"{replica} waits for its image on {node}: {one_line(event.get('message', ''))}"
        return f"{replica} is being started on {node}."
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
