"""The state of a job on Slurm, as TorchX's states and as messages for users."""

from collections.abc import Sequence
from pathlib import Path

from torchx.schedulers.api import DescribeAppResponse
from torchx.specs import AppState, ReplicaState, ReplicaStatus, Role, RoleStatus

from hardviews.launch.slurm.logs import log_file
from hardviews.launch.slurm.records import Part
from hardviews.launch.slurm.surroundings import hostnames

ROLES = ("coordinator", "trainer", "evaluation", "packer")
"""Roles of our jobs."""

STATES = {
    **dict.fromkeys(
        ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED"), AppState.PENDING
    ),
    **dict.fromkeys(("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING", "STOPPED"), AppState.RUNNING),
    "COMPLETED": AppState.SUCCEEDED,
    **dict.fromkeys(("CANCELLED", "REVOKED"), AppState.CANCELLED),
}
"""TorchX's states by Slurm's; every other state is a failure."""

_ENDS = {
    "TIMEOUT": "The time limit came before the job had saved. The same command continues from the last checkpoint.",
    "NODE_FAIL": "A node was lost. The same command continues from the last checkpoint.",
    "PREEMPTED": "Another job took its nodes. The same command continues from the last checkpoint.",
    "OUT_OF_MEMORY": "A process had no memory left. Give it more: --memMB.",
    "CANCELLED": "The job was cancelled.",
    "COMPLETING": "The job ends, or begins again; Slurm waits for its processes.",
}
_WAITS = {
    "Resources": "It waits for free nodes.",
    "Priority": "Jobs of a higher priority come first.",
    "BeginTime": "Slurm delays it a little, as always after a job was queued again.",
    "Dependency": "It waits for another job.",
    "JobHeldUser": "It is held: scontrol release {job}.",
    "JobHeldAdmin": "An administrator holds it.",
    "launch failed requeued held": "It could not be started and is held: scontrol release {job}.",
    "ReqNodeNotAvail": "Nodes that it needs are down or reserved.",
    "PartitionTimeLimit": "Its time limit is longer than the partition allows.",
    "PartitionNodeLimit": "It asks for more nodes than the partition allows.",
    "DependencyNeverSatisfied": "The job that it depends on has failed. Cancel it by torchx cancel, and submit again.",
}


def response(parts: Sequence[Part]) -> DescribeAppResponse:
    """Return TorchX's description of a job, which has at least one part."""
    whole = parts[0]
    state = STATES.get(whole.state, AppState.FAILED)
    roles, statuses = [], []
    for part in parts:
        role = role_of(part.name)
        nodes = hostnames(part.nodes)
        of_part = STATES.get(part.state, AppState.FAILED)
        names = ([("coordinator", nodes[:1])] if _beside(part, parts) else []) + [(role, nodes)]
        for name, places in names:
            roles.append(Role(name=name, image="", num_replicas=max(1, len(places))))
            found = [ReplicaStatus(i, ReplicaState(of_part), name, node) for i, node in enumerate(places)]
            statuses.append(RoleStatus(name, found or [ReplicaStatus(0, ReplicaState(of_part), name, "")]))
    return DescribeAppResponse(
        app_id=whole.job, state=state, msg=_message(whole, state), roles=roles, roles_statuses=statuses
    )


def role_of(name: str) -> str:
    """Return the role in the name of a job's part; for jobs of others the name before the number, as in TorchX."""
    before, _, role = name.rpartition("-")
    return role if role in ROLES or not before else before


def is_ours(parts: Sequence[Part]) -> bool:
    """Return whether a job is a job of this project."""
    return parts[0].name.rpartition("-")[2] in ROLES


def _beside(part: Part, parts: Sequence[Part]) -> bool:
    """Return whether the coordinator of a job runs in the job's only part."""
    return len(parts) == 1 and role_of(part.name) in ("trainer", "evaluation")


def _message(whole: Part, state: AppState) -> str:
    if state == AppState.PENDING:
        reason = whole.reason.partition(",")[0].strip("()")
        return _WAITS.get(reason, f"Slurm's reason: {reason}.").format(job=whole.job)
    text = _ENDS.get(whole.state, "")
    if state == AppState.FAILED and not text:
        last = _last_words(whole)
        text = f"Slurm's state is {whole.state}. {last}".strip()
    return text


def _last_words(whole: Part) -> str:
    """Return the last line of the log of a failed job, if this machine can read it."""
    roles = ("coordinator", role_of(whole.name))
    for file in [log_file(Path(whole.folder), whole.job, role, 0) for role in roles]:
        try:
            lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            continue
        told = [line for line in lines if not line.startswith(("slurmstepd", "srun:", "slurm:"))]
        if told or lines:
            return f"The last line of its log: {(told or lines)[-1].strip()}"
    return ""
