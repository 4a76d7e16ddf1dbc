"""Why pods of a job have no node: the queue's limit, too large a request, or no room now. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torchx.specs import ReplicaState

from hardviews.launch.kubernetes.observed import Object, Replica, Surroundings, latest, number, one_line, phase


def waiting(job: Object, there: Sequence[Replica], seen: Surroundings) -> str:
    """Says which pods have no node and why; empty where all have one."""
    events = seen.events
    if not there and phase(job) in ("", "Pending"):
        queue = job["spec"].get("queue", "default")
        if full := _full(job, seen.queue, asked=_lacking(job, there)):
            return f"The job waits: {full}"
        for event in latest(events):
            if event.get("type") == "Warning" or event.get("reason") in ("Unschedulable", "PodGroupPending"):
                return f"The job waits in the queue {queue}: {one_line(event.get('message', ''))}"
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
    said += [e.get("message", "") for e in latest(events) if e.get("involvedObject", {}).get("name") in names]
    for text in said:
        if "nodes are" in text or "Insufficient" in text:
            return one_line(text)
    asked = pending[-1].pod["spec"]["containers"][0].get("resources", {}).get("requests", {})
    amounts = ", ".join(f"{amount} of {name}" for name, amount in sorted(asked.items()))
    return f"no node has {amounts or 'what it asks for'} free now ({pending[-1]} asks for that)."


def _full(job: Object, queue: Object | None, asked: Mapping[str, float]) -> str:
    """Whether a queue's limit is what keeps pods waiting; its objects may not be ours to see."""
    allowed = (queue or {}).get("spec", {}).get("capability") or {}
    used = (queue or {}).get("status", {}).get("allocated") or {}
    for name, limit in allowed.items():
        most, taken = number(limit), number(used.get(name, "0"))
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
    return {name: number(amount) for name, amount in requests.items()}


def _too_large(asked: Mapping[str, str], nodes: Sequence[Object]) -> str:
    """Names what no node has even when it is empty."""
    for name, amount in asked.items():
        most = max((number(node["status"]["allocatable"].get(name, "0")) for node in nodes), default=None)
        if most is not None and number(amount) > most:
            unit = " MB" if name == "memory" else ""
            least = number(amount) / (1e6 if unit else 1)
            return f"{least:g}{unit} of {name}, and the largest node has {most / (1e6 if unit else 1):g}{unit} of it"
    return ""


def _unschedulable(replica: Replica) -> str:
    for condition in replica.pod.get("status", {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return one_line(condition.get("message", ""))
    return ""
