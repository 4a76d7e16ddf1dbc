"""The status of a job from its objects: its state, the states of its replicas, and a message. Pure."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torchx.schedulers.api import DescribeAppResponse
from torchx.specs import AppState, ReplicaState, ReplicaStatus, Resource, Role, RoleStatus

from hardviews.launch import EVALUATIONS
from hardviews.launch.component import COMMAND
from hardviews.launch.kubernetes.endings import disruption, ending, past_evictions
from hardviews.launch.kubernetes.held import held
from hardviews.launch.kubernetes.liveness import Liveness, coordinator, liveness
from hardviews.launch.kubernetes.manifest import GPU_RESOURCE
from hardviews.launch.kubernetes.nodes import troubles, unreachable
from hardviews.launch.kubernetes.observed import (
    Object,
    Replica,
    Surroundings,
    latest,
    names,
    number,
    one_line,
    paragraph,
    phase,
    replicas,
    role_name,
    seconds,
)
from hardviews.launch.kubernetes.room import needed_pods, optional_pods, without_pods
from hardviews.launch.kubernetes.starting import mistaken, starting
from hardviews.launch.pod_options import GPU

STATES = {
    "": AppState.SUBMITTED,
    "Pending": AppState.PENDING,
    "Aborting": AppState.RUNNING,
    "Aborted": AppState.CANCELLED,
    "Running": AppState.RUNNING,
    "Restarting": AppState.RUNNING,
    "Completing": AppState.RUNNING,
    "Completed": AppState.SUCCEEDED,
    "Terminating": AppState.FAILED,
    "Terminated": AppState.FAILED,
    "Failed": AppState.FAILED,
}
"""Every phase of a Volcano job."""

OVER = ("Completed", "Aborted", "Terminated", "Failed")
"""Phases of a Volcano job whose pods have all ended."""


def response(app_id: str, job: Object, pods: Sequence[Object], seen: Surroundings) -> DescribeAppResponse:
    """Return TorchX's description of a job.

    Args:
        app_id: TorchX's id of the job.
        job: Volcano's object.
        pods: pods of the job.
        seen: surroundings of the job.
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
        state=state_of(job, there),
        num_restarts=int(status.get("retryCount", 0)),
        msg=diagnose(job, there, seen),
        roles_statuses=statuses,
        roles=roles,
    )


def described(job: Object) -> list[Role]:
    """Return the roles of a job, as far as they follow from its manifest."""
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
                gpu=int(limits.get(_gpu_resource(task), 0)),
                memMB=int(number(limits.get("memory", "0")) / 1e6),
            ),
            port_map={port.get("name", ""): port["containerPort"] for port in container.get("ports", [])},
        )
    for role in found.values():
        if role.min_replicas == role.num_replicas:
            role.min_replicas = None
    return list(found.values())


def _gpu_resource(task: Object) -> str:
    """Return the name under which nodes offer the GPUs of a task."""
    return str((task["template"].get("metadata", {}).get("annotations") or {}).get(GPU_RESOURCE, GPU))


def _replica_status(replica: Replica) -> ReplicaStatus:
    status = ReplicaStatus(
        id=replica.number,
        role=replica.role,
        state=replica.state,
        hostname=replica.pod.get("spec", {}).get("nodeName", ""),
    )
    if replica.state == ReplicaState.FAILED:
        # The text that TorchX prints beside a failed replica, in TorchX's form.
        when = replica.ended.get("finishedAt") or replica.pod["metadata"].get("creationTimestamp", "")
        status.structured_error_msg = json.dumps(
            {
                "message": {
                    "message": one_line(ending(replica)),
                    "errorCode": replica.ended.get("exitCode", 0),
                    "extraInfo": {"timestamp": str(int(seconds(when) or 0))},
                }
            }
        )
    return status


def diagnose(job: Object, there: Sequence[Replica], seen: Surroundings) -> str:
    """Return the troubles of a job, or the things that it waits for, in one paragraph."""
    now = phase(job)
    if now == "Completed":
        return ""
    if now in ("Terminated", "Failed"):
        return _failure(job, there)
    if now == "Terminating" or doomed(job, there):
        remaining = [r for r in there if r.state in (ReplicaState.RUNNING, ReplicaState.PENDING)]
        return paragraph(
            [_failure(job, there), f"Its other pods are being stopped: {names(remaining)}." if remaining else ""]
        )
    if now == "Aborted":
        return "The job was cancelled."
    if now == "Aborting":
        return "The job is being cancelled: its processes save and leave."
    if now == "Completing" or _complete(job, there):
        return f"The {'evaluation' if _evaluates(job) else 'training'} is complete; the remaining pods are stopped."
    return paragraph(_findings(job, there, seen))


def _findings(job: Object, there: Sequence[Replica], seen: Surroundings) -> Iterator[str]:
    """Yield sentences about a job that is not over, the most important first."""
    if text := _refused(job, there, seen.events):
        yield text
    if not there:
        if not text:
            yield without_pods(job, seen)
        return
    blocked = next(filter(None, (mistaken(replica, seen) for replica in there)), "")
    yield blocked or next(filter(None, (_failing(job, replica) for replica in there)), "")
    yield from troubles(there, seen)
    yield from filter(None, (disruption(replica) for replica in there if replica.state != ReplicaState.FAILED))
    restarting = _restarting(job, there)
    yield restarting
    needed = needed_pods(job, there, seen)
    yield needed
    yield "" if text else _absent(job, there)
    yield held(job, there)
    done = phase(job) == "Running" or any(_works(job, replica) for replica in there)
    done = done and not _evaluates(job)  # an evaluation has no steps
    standing = liveness(job, there, unreachable(there, seen), seen) if done else Liveness()
    if standing.trains is not True:
        yield standing.text
    yield "" if blocked else starting(there, seen)
    optional = optional_pods(job, there, seen)
    if optional and phase(job) == "Running" and not (needed or restarting) and standing.trains is not False:
        running = sum(replica.state == ReplicaState.RUNNING for replica in there)
        yield f"The job goes on with {running} of {len(there)} pods; {optional[0].lower()}{optional[1:]}"
    else:
        yield optional
    if standing.trains:
        yield standing.text
    yield _restarts(there)
    yield past_evictions(there, seen)


def state_of(job: Object, there: Sequence[Replica]) -> AppState:
    """Return the state of a job; a failed one is FAILED at once, though Volcano still stops its pods.

    A job that waits for results of other jobs is PENDING, although its coordinator runs.
    """
    now = phase(job)
    if now in ("", "Pending", "Running") and doomed(job, there):
        return AppState.FAILED
    if now in ("Pending", "Running") and held(job, there):
        return AppState.PENDING
    if now == "Pending" and any(_works(job, replica) for replica in there):
        return AppState.RUNNING  # Volcano's phase is Pending for a job that runs and waits for its lost pods
    return STATES.get(now, AppState.UNKNOWN)


def doomed(job: Object, there: Sequence[Replica]) -> bool:
    """Return whether a container has ended with a code that ends its whole job as failed."""
    for task in job["spec"]["tasks"]:
        policies = task.get("policies") or []
        codes = {policy.get("exitCode") for policy in policies if policy.get("action") == "TerminateJob"} - {None}
        for replica in there:
            if replica.role == role_name(task) and replica.state == ReplicaState.FAILED:
                ended = replica.container.get("state", {}).get("terminated") or {}
                if ended.get("exitCode") in codes:
                    return True
    return False


def _complete(job: Object, there: Sequence[Replica]) -> bool:
    """Return whether the coordinator has ended with success: Volcano is about to complete the job."""
    _, head = coordinator(job, there)
    return head is not None and head.state == ReplicaState.SUCCEEDED


def _evaluates(job: Object) -> bool:
    """Return whether the job's working pods evaluate; otherwise they train."""
    words = job["spec"]["tasks"][-1]["template"]["spec"]["containers"][0].get("command") or []
    return any(one == COMMAND and other in EVALUATIONS for one, other in pairwise(words))


def _works(job: Object, replica: Replica) -> bool:
    """Return whether a replica other than the coordinator runs."""
    return replica.state == ReplicaState.RUNNING and replica is not coordinator(job, [replica])[1]


def _failure(job: Object, there: Sequence[Replica]) -> str:
    ended = [replica for replica in there if replica.state == ReplicaState.FAILED]
    if ended:
        # The coordinator, the first role, has the reason of the failure.
        return ending(ended[0])
    retries = int((job.get("status") or {}).get("retryCount", 0))
    again = f", having been restarted {_times(retries)}" if retries else ""
    return f"The job failed{again}; its pods are gone. kubectl describe job.batch.volcano.sh shows its events."


def _failing(job: Object, replica: Replica) -> str:
    if replica.waiting.get("reason") == "CrashLoopBackOff" or replica.state == ReplicaState.FAILED:
        times = f" It has been restarted {_times(replica.restarts)}." if replica.restarts else ""
        anew = ""
        if replica.state == ReplicaState.FAILED and _works_again(job, replica):
            anew = " Volcano makes its pod anew about a minute later."
        return ending(replica) + times + anew
    return ""


def _works_again(job: Object, replica: Replica) -> bool:
    policies = [
        p for task in job["spec"]["tasks"] if role_name(task) == replica.role for p in task.get("policies") or []
    ]
    return any(policy.get("event") == "PodFailed" and policy.get("action") == "RestartPod" for policy in policies)


def _refused(job: Object, there: Sequence[Replica], events: Sequence[Object]) -> str:
    """Return the reasons of the API or Volcano against missing pods."""
    if len(there) >= sum(int(task.get("replicas", 1)) for task in job["spec"]["tasks"]):
        return ""
    for event in latest(events):
        if event.get("type") == "Warning" and event.get("reason") in ("FailedCreate", "PluginError", "PodGroupError"):
            text = str(event.get("message", ""))
            inner = re.search(r'Message:"((?:[^"\\]|\\.)*)"', text)
            return (
                f"The cluster refuses the job's pods: {inner[1].replace(chr(92) + chr(34), chr(34)) if inner else text}"
            )
    return ""


def _absent(job: Object, there: Sequence[Replica]) -> str:
    """Return a sentence if the coordinator has no pod: Volcano makes one within seconds."""
    has, head = coordinator(job, there)
    return "The coordinator has no pod; Volcano makes it anew." if has and head is None else ""


def _restarting(job: Object, there: Sequence[Replica]) -> str:
    if phase(job) != "Restarting":
        return ""
    _, head = coordinator(job, there)
    if head is not None and head.state == ReplicaState.RUNNING and not head.leaving:
        return "A pod of the job is made anew."
    return "The coordinator was lost; the job's pods save, end and start again."


def _restarts(there: Sequence[Replica]) -> str:
    again = [replica for replica in there if replica.restarts and replica.state == ReplicaState.RUNNING]
    if not again:
        return ""
    counts = ", ".join(f"{replica} {_times(replica.restarts)}" for replica in again)
    return f"Containers were restarted before, {counts}; the last time {ending(again[-1], lines=1)}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
