"""Nodes of the cluster and their GPUs."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from hardviews.doctor.finding import Finding, missing, ok, warning
from hardviews.doctor.probe import KUBERNETES, Probe
from hardviews.doctor.settings import Doctor

_PLUGIN = (
    "For training on GPUs install the device plugin: helm install nvdp nvdp/nvidia-device-plugin --namespace "
    "nvidia-device-plugin --create-namespace"
)
_SHOWN = 4  # most kinds of nodes in the report


def look(settings: Doctor) -> Iterator[Finding]:
    """Read all nodes."""
    from hardviews.doctor.reached import reach, refused
    from hardviews.launch.kubernetes.cluster import ApiRefused
    from hardviews.launch.pod_options import GPU

    reached = reach(settings)
    if reached.cluster is None:
        yield from reached.skip("nodes")
        return
    try:
        nodes = reached.cluster.get("/api/v1/nodes").get("items", [])
    except ApiRefused as error:
        yield refused("nodes", error, "list nodes")
        return
    usable = [node for node in nodes if _is_ready(node) and not (node.get("spec") or {}).get("unschedulable")]
    if not usable:
        yield missing("nodes", f"none of {len(nodes)} is ready and takes pods", "kubectl get nodes")
        return
    text = f"{len(usable)} of {len(nodes)} ready"
    yield ok("nodes", text) if len(usable) == len(nodes) else warning("nodes", text, "kubectl get nodes")
    counts = Counter(int(str((node.get("status") or {}).get("allocatable", {}).get(GPU, 0))) for node in usable)
    if not any(counts):
        yield warning("GPUs of nodes", f"no node offers {GPU}: jobs run on CPUs only", _PLUGIN)
        return
    shown = [f"{number} node(s) with {gpus}" for gpus, number in sorted(counts.items(), reverse=True)[:_SHOWN]]
    yield ok("GPUs of nodes", f"{GPU}: {', '.join(shown)}")


def _is_ready(node: Any) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


PROBE = Probe("nodes", KUBERNETES, look, together=KUBERNETES)
