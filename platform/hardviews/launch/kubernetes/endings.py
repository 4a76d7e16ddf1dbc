"""The reasons for the end of a container or a pod, in words. Pure."""

from collections.abc import Sequence

from torchx.specs import ReplicaState

from hardviews.launch.kubernetes.observed import Object, Replica, Surroundings, one_line

_SIGNALLED = 128  # a higher exit code is an end by the signal with the difference as its number
_SHOWN = 5  # number of lines of the log that are shown if the container has left no message

_REASONS = {
    "Evicted": "was evicted by its node",
    "Preempting": "was ended by its node to make room for a system pod",
    "DeadlineExceeded": "ran into the deadline of its pod",
    "Terminated": "was ended because its node shuts down",
    "NodeShutdown": "was ended because its node shuts down",
    "Shutdown": "was ended because its node shuts down",
    "NodeLost": "was lost with its node",
    "UnexpectedAdmissionError": "was refused by its node",
    "NodeAffinity": "was refused by its node, whose labels have changed",
}
"""Reasons of a pod that has failed as a whole; `OutOfcpu` and similar ones are matched by their beginning."""

_DISRUPTIONS = {
    "PreemptionByScheduler": "is preempted: another job of a higher priority needs its room",
    "DeletionByTaintManager": "is evicted: its node has a taint that it does not tolerate",
    "EvictionByEvictionAPI": "is evicted, as by a drain of its node",
    "DeletionByPodGC": "is removed: its node is gone",
    "TerminationByKubelet": "is evicted by its node",
}
"""Reasons of the condition DisruptionTarget."""


def ending(replica: Replica, lines: int = _SHOWN) -> str:
    """Return why a replica's container or pod ended, with the last lines of its log."""
    status = replica.pod.get("status", {})
    if reason := status.get("reason"):
        return _pod_ending(replica, str(reason), one_line(status.get("message", "")))
    ended = replica.ended
    if ended.get("reason") == "OOMKilled":
        memory = replica.pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory", "its limit")
        return f"{replica} needed more memory than {memory} and was killed. Give more: --memMB."
    if lost := disruption(replica):
        return lost
    code = int(ended.get("exitCode", 0))
    how = f"was killed by signal {code - _SIGNALLED}" if code > _SIGNALLED else f"ended with exit code {code}"
    last = "\n".join(str(ended.get("message") or "").strip().splitlines()[-lines:])
    return f"{replica} {how}" + (f": {last}" if last else "; torchx log shows its last lines.")


def disruption(replica: Replica) -> str:
    """Return why a replica's pod is being removed; empty if it is not."""
    target = replica.condition("DisruptionTarget")
    if target.get("status") != "True":
        return ""
    why = one_line(target.get("message", ""))
    how = _DISRUPTIONS.get(str(target.get("reason")), "is taken away")
    return f"{replica} {how}" + (f" ({why.rstrip('.')})." if why else ".")


def _pod_ending(replica: Replica, reason: str, why: str) -> str:
    if reason.startswith("OutOf"):
        how = "was refused by its node, which has no room for it"
    else:
        how = _REASONS.get(reason, f"was ended by its node ({reason})")
    text = f"{replica} {how}" + (f": {why.rstrip('.')}." if why else ".")
    return text + remedy(why)


def remedy(why: str) -> str:
    """Return a remedy against an eviction, with a space before it; empty if there is none."""
    if "EmptyDir volume" in why and "dshm" in why:
        return " Give more shared memory: --shm, which is part of --memMB."
    if "EmptyDir volume" in why or "ephemeral-storage" in why or "ephemeral local storage" in why:
        return " Give more local disk, --scratch, or lower --loader.reader.cache-bytes."
    if "resource: memory" in why:
        return " Give more: --memMB."
    return ""


def past_evictions(replicas: Sequence[Replica], seen: Surroundings) -> str:
    """Return a sentence about pods that were evicted recently and run again; empty if there are none."""
    for replica in replicas:
        if replica.state == ReplicaState.FAILED:
            continue
        for event in seen.about(replica.name):
            if event.get("reason") in ("Evicted", "Evict") and not _of(event, replica):
                why = one_line(event.get("message", "")).rstrip(".")
                return f"{replica} was evicted before: {why}.{remedy(why)}"
    return ""


def _of(event: Object, replica: Replica) -> bool:
    """Return whether an event is about this pod, not about an earlier one of the same name."""
    return bool(event["involvedObject"].get("uid") == replica.pod["metadata"].get("uid", ""))
