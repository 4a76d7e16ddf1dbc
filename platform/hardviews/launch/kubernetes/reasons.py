"""The scheduler's reasons against nodes, with remedies. Pure."""

import re
from collections.abc import Sequence

from hardviews.launch.kubernetes.observed import Object, Replica, one_line

_NODES = re.compile(r"\d+/\d+ nodes are unavailable: .*")
_POD = re.compile(
    r"pod has unbound immediate PersistentVolumeClaims|persistentvolumeclaim \S+ not found", re.IGNORECASE
)


def explained(text: str, pending: Sequence[Replica], nodes: Sequence[Object] = ()) -> str:
    """Return a reason of the scheduler with its remedies; empty if the text does not hold one.

    Args:
        text: text of a pod's condition, an event or the pod group; often inside remarks about the gang.
        pending: replicas that wait for a node.
        nodes: nodes of the cluster; the scheduler does not always name the taints.
    """
    text = one_line(text)
    if found := _NODES.search(text) or _POD.search(text):
        reason = found[0] if found[0].endswith(".") else f"{found[0]}."
        return reason + "".join(
            f" {help}" for help in _remedies(reason, [replica.pod["spec"] for replica in pending], nodes)
        )
    if "once resource is released" in text and (node := re.search(r"assigned to (\S+?),", text)):
        return f"{pending[0]} gets a place on {node[1]} once pods that leave it are gone."
    return f"{text.rstrip('.')}." if "Insufficient" in text else ""


def _remedies(reason: str, specs: Sequence[Object], nodes: Sequence[Object]) -> list[str]:
    """Return a remedy for each of the reasons in a sentence of the scheduler."""
    found = []
    if keys := _taints(reason, specs, nodes):
        own = [key for key in keys if not key.startswith("node.kubernetes.io/")]
        if own:
            found.append(f"--toleration {','.join(own)} lets the pods onto nodes with that taint.")
        if "node.kubernetes.io/unreachable" in keys or "node.kubernetes.io/not-ready" in keys:
            found.append("Nodes are not ready: `kubectl get nodes`.")
        if any(key.endswith("-pressure") for key in keys):
            found.append("Nodes are short of memory or disk: `kubectl describe nodes`.")
    if "node affinity/selector" in reason and (
        labels := next((spec["nodeSelector"] for spec in specs if spec.get("nodeSelector")), None)
    ):
        wanted = ",".join(f"{key}={value}" for key, value in labels.items())
        found.append(f"`kubectl get nodes -l {wanted}` shows the nodes that have what --node_selector asks for.")
    if "affinity" in reason and any(spec.get("affinity") for spec in specs):
        found.append("The pods have the affinity of --affinity, which admits fewer nodes: see its rules.")
    if "free ports" in reason and any(spec.get("hostNetwork") for spec in specs):
        found.append("With host_network a node has room for one coordinator only.")
    if "were unschedulable" in reason or "node.kubernetes.io/unschedulable" in keys:
        found.append("Cordoned nodes take no pods: `kubectl uncordon NODE`.")
    if re.search(r"persistent ?volume", reason, re.IGNORECASE):
        claims = dict.fromkeys(
            volume["persistentVolumeClaim"]["claimName"]
            for spec in specs
            for volume in spec.get("volumes", [])
            if "persistentVolumeClaim" in volume
        )
        found.append(f"`kubectl describe pvc {' '.join(claims)}`".rstrip() + " shows why the volume is not bound.")
    return found


def _taints(reason: str, specs: Sequence[Object], nodes: Sequence[Object]) -> list[str]:
    """Return the keys of the taints that keep pods away."""
    if "taint" not in reason:
        return []
    if found := re.findall(r"taint(?:s)? ?\{([^}]*)\}", reason):
        return list(dict.fromkeys(taint.split(":")[0].strip() for taint in found))
    borne = {entry.get("key") for spec in specs for entry in spec.get("tolerations", [])}
    taints = [taint for node in nodes for taint in node.get("spec", {}).get("taints") or []]
    hard = [str(taint.get("key")) for taint in taints if taint.get("effect") != "PreferNoSchedule"]
    return list(dict.fromkeys(key for key in hard if key not in borne))
