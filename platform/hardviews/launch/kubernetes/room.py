"""The reasons why pods of a job have no node: the queue's limit, a rule that no node satisfies, or no room. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from torchx.specs import ReplicaState

from hardviews.launch.kubernetes.observed import (
    Object,
    Replica,
    Surroundings,
    latest,
    names,
    number,
    one_line,
    phase,
    role_name,
)
from hardviews.launch.kubernetes.reasons import explained


def without_pods(job: Object, seen: Surroundings) -> str:
    """Return why a job has no pods yet: its queue has not admitted it."""
    queue = job["spec"].get("queue", "default")
    if closed := _closed(job, seen.queue):
        return f"The job waits: {closed}"
    if full := _full(job, seen.queue, wanted=lacking(job, [])):
        return f"The job waits: {full}"
    for event in latest(seen.events):
        if event.get("type") == "Warning" or event.get("reason") in ("Unschedulable", "PodGroupPending"):
            return f"The job waits in the queue {queue}: {_admission(one_line(event.get('message', '')))}"
    if not phase(job):
        return (
            "Volcano has not looked at the job yet. If this lasts, its controller does not run: "
            "`kubectl get pods -n volcano-system`."
        )
    return f"The job waits in the queue {queue} for its turn."


def needed_pods(job: Object, there: Sequence[Replica], seen: Surroundings) -> str:
    """Return which necessary pods have no node, and why; empty if all have one."""
    pending = [replica for replica in there if replica.unplaced]
    if not pending or not (short := lacking(job, there)):
        return ""
    missing = _short(job, there)
    needed = [replica for replica in pending if missing.get(replica.role)]
    if not needed:
        return ""
    why = _why(job, needed, seen, wanted=short)
    least = sum(missing.values())
    if len(needed) == 1 or least == 1:
        waits = f"The job waits for room for {'its pod' if len(there) == 1 else 'one more pod'}"
    else:
        waits = f"The job waits for room for {least} pods at once"
    return f"{waits}; no node yet for {', '.join(map(str, needed))}: {why}"


def optional_pods(job: Object, there: Sequence[Replica], seen: Surroundings) -> str:
    """Return which trainers above the least number have no node, and why; empty if all have one."""
    missing = _short(job, there)
    pending = [replica for replica in there if replica.unplaced and not missing.get(replica.role)]
    if not pending:
        return ""
    why = _why(job, pending, seen, wanted=_wanted(pending[0].pod["spec"]))
    return f"No room yet for {names(pending)}, which the job can do without: {why}"


def lacking(job: Object, there: Sequence[Replica]) -> dict[str, float]:
    """Return the total amounts for the job's necessary pods that have no node yet."""
    missing = _short(job, there)
    total: dict[str, float] = {}
    for task in job["spec"]["tasks"]:
        role = role_name(task)
        if count := min(missing.get(role, 0), _least(task)):
            missing[role] -= count
            for name, amount in _wanted(task["template"]["spec"]).items():
                total[name] = total.get(name, 0.0) + amount * count
    return total


def _short(job: Object, there: Sequence[Replica]) -> dict[str, int]:
    """Return the number of pods of every role that still need a node before the job can run."""
    least: dict[str, int] = {}
    for task in job["spec"]["tasks"]:
        least[role_name(task)] = least.get(role_name(task), 0) + _least(task)
    for replica in there:
        if replica.role in least and replica.node and not replica.leaving and replica.state != ReplicaState.FAILED:
            least[replica.role] -= 1
    return {role: count for role, count in least.items() if count > 0}


def _least(task: Object) -> int:
    return int(task.get("minAvailable", task.get("replicas", 1)))


def _why(job: Object, pending: Sequence[Replica], seen: Surroundings, wanted: Mapping[str, float]) -> str:
    if closed := _closed(job, seen.queue):
        return closed
    for replica in pending:
        requests = replica.pod["spec"]["containers"][0].get("resources", {}).get("requests", {})
        if large := _too_large(requests, seen.nodes):
            return f"{replica} asks for {large}."
    if full := _full(job, seen.queue, wanted):
        return full
    # A gang's message ("pod group is not ready") does not contain the reason.
    for text in _scheduler_words(pending, seen):
        if reason := explained(text, pending, seen.nodes):
            return reason
    requests = pending[-1].pod["spec"]["containers"][0].get("resources", {}).get("requests", {})
    amounts = ", ".join(f"{amount} of {name}" for name, amount in sorted(requests.items()))
    return f"the scheduler has found no node with {amounts or 'room'} free ({pending[-1]} asks for that)." + _blind(
        seen
    )


def _blind(seen: Surroundings) -> str:
    """Return a sentence about the missing rights."""
    hidden = [kind for kind in ("queues", "nodes", "events") if kind in seen.hidden]
    return f" The right to read {' and '.join(hidden)} would show more." if hidden else ""


def _scheduler_words(pending: Sequence[Replica], seen: Surroundings) -> Iterator[str]:
    """Yield the scheduler's messages about pods, then about their gang."""
    for replica in pending:
        scheduled = replica.condition("PodScheduled")
        if scheduled.get("status") == "False":
            yield one_line(scheduled.get("message", ""))
    mine = {replica.name for replica in pending}
    for event in latest(seen.events):
        if event.get("involvedObject", {}).get("name") in mine:
            yield one_line(event.get("message", ""))
    for condition in reversed((seen.group or {}).get("status", {}).get("conditions") or []):
        if condition.get("type") == "Unschedulable" and condition.get("status") == "True":
            yield one_line(condition.get("message", ""))


def _closed(job: Object, queue: Object | None) -> str:
    state = (queue or {}).get("status", {}).get("state", "Open")
    if state in ("Open", "", "Unknown"):
        return ""
    name = job["spec"].get("queue", "default")
    return f"the queue {name} is {state}, and starts nothing. Have it opened, or submit again with -cfg queue=NAME."


def _full(job: Object, queue: Object | None, wanted: Mapping[str, float]) -> str:
    """Return a sentence if a queue's limit keeps pods waiting; we may lack the right to read the queue."""
    allowed = (queue or {}).get("spec", {}).get("capability") or {}
    used = (queue or {}).get("status", {}).get("allocated") or {}
    for name, limit in allowed.items():
        most, taken = number(limit), number(used.get(name, "0"))
        if wanted.get(name) and taken + wanted[name] > most * (1 + 1e-9):
            text = (
                f"the queue {job['spec'].get('queue')} allows {amount(name, most)} of {name} in all, "
                f"{amount(name, taken)} are in use, and {amount(name, wanted[name])} more are asked for."
            )
            if wanted[name] > most:
                text += " It never fits: ask for less, or have the queue's capability raised."
            return text
    return ""


def amount(name: str, quantity: float) -> str:
    """Return an amount of a resource for people: memory and disks in MB."""
    return f"{quantity / 1e6:.10g} MB" if name in ("memory", "ephemeral-storage") else f"{quantity:.6g}"


def _admission(why: str) -> str:
    """Return the scheduler's reason for not admitting a job, with its meaning."""
    if "resource in cluster is overused" in why:
        return f"the cluster has no room for it ({why})."
    if "queue resource quota insufficient" in why:
        return f"the queue's limit is reached ({why})."
    return why


def _wanted(pod: Object) -> dict[str, float]:
    requests = pod["containers"][0].get("resources", {}).get("requests", {})
    return {name: number(quantity) for name, quantity in requests.items()}


def _too_large(requests: Mapping[str, str], nodes: Sequence[Object]) -> str:
    """Return the requests that exceed even an empty node, in words."""
    for name, quantity in requests.items():
        most = max((number(node["status"]["allocatable"].get(name, "0")) for node in nodes), default=None)
        if most is not None and number(quantity) > most:
            unit = " MB" if name == "memory" else ""
            wanted = number(quantity) / (1e6 if unit else 1)
            return f"{wanted:g}{unit} of {name}, and the largest node has {most / (1e6 if unit else 1):g}{unit} of it"
    return ""
