"""Nodes that hold pods of a job and do not work: not ready, deleted, cordoned. Pure."""

from collections.abc import Sequence

from torchx.specs import ReplicaState

from hardviews.launch.kubernetes.observed import Object, Replica, Surroundings, names

_ANEW = (
    "have them made anew elsewhere: `kubectl delete node {node}`, or `kubectl taint node {node} "
    "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`"
)
_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


def unreachable(there: Sequence[Replica], seen: Surroundings) -> list[Replica]:
    """Return the replicas whose pods were on nodes that do not answer."""
    dead = {str(node["metadata"]["name"]) for node in seen.nodes if _not_ready(node)} | seen.missing
    return [replica for replica in there if replica.node in dead or replica.name in seen.silent]


def troubles(there: Sequence[Replica], seen: Surroundings) -> list[str]:
    """Return one sentence for each node of the job's pods that does not work."""
    found = []
    by_node: dict[str, list[Replica]] = {}
    for replica in there:
        if replica.node and replica.state in (ReplicaState.RUNNING, ReplicaState.PENDING, ReplicaState.UNKNOWN):
            by_node.setdefault(replica.node, []).append(replica)
    objects = {str(node["metadata"]["name"]): node for node in seen.nodes if "metadata" in node}
    for name, mine in by_node.items():
        if name in seen.missing:
            found.append(f"{name} does not exist any more; {_pods(mine)} go{'es' * (len(mine) == 1)} with it.")
            continue
        node = objects.get(name)
        condition = _not_ready(node) if node else None
        if condition is not None:
            since = condition.get("lastTransitionTime", "")
            found.append(
                f"{name} is not ready{f' since {since}' if since else ''}; {_pods(mine)} cannot be reached. Once the "
                f"node is known to be off, {_ANEW.format(node=name)}."
            )
        elif silent := [replica for replica in mine if replica.name in seen.silent]:
            found.append(f"{name} does not answer: the log of {names(silent)} could not be read.")
        elif node is None and (stale := [replica for replica in mine if _reported_lost(replica)]):
            found.append(
                f"{name} does not report; {_pods(stale)} cannot be reached. The right to get nodes would show more."
            )
        elif node and (pressures := [kind for kind in _PRESSURES if _status(node, kind) == "True"]):
            found.append(f"{name} has {' and '.join(pressures)} and may evict {names(mine)}.")
    return found


def _pods(replicas: Sequence[Replica]) -> str:
    return ("its pod " if len(replicas) == 1 else "its pods ") + names(replicas)


def _not_ready(node: Object) -> Object | None:
    """Return the node's condition Ready, unless it is ready."""
    for condition in node.get("status", {}).get("conditions") or []:
        if condition.get("type") == "Ready":
            return None if condition.get("status") == "True" else dict(condition)
    return None


def _status(node: Object, kind: str) -> str:
    conditions = node.get("status", {}).get("conditions") or []
    return next((str(c.get("status")) for c in conditions if c.get("type") == kind), "")


def _reported_lost(replica: Replica) -> bool:
    """Return whether the control plane has marked a running pod as not ready, because its node is silent."""
    ready = replica.condition("Ready")
    running = bool(replica.container.get("state", {}).get("running"))
    return (
        running
        and replica.pod["status"].get("phase") == "Running"
        and ready.get("status") == "False"
        and replica.container.get("ready") is not False
    )
