"""Volcano: its kinds of objects, its controller and its scheduler, their version."""

import re
from collections.abc import Iterator
from typing import Any

from hardviews.doctor.finding import Finding, missing, ok, warning
from hardviews.doctor.probe import KUBERNETES, Probe
from hardviews.doctor.settings import Doctor

LEAST = (1, 11)
"""The oldest supported version (docs/cluster.md)."""

_INSTALL = (
    "helm install volcano volcano-sh/volcano --version 1.14.1 --namespace volcano-system --create-namespace --wait "
    "(docs/cluster.md)"
)
_NAMESPACE = "volcano-system"
_PARTS = ("controller", "scheduler")


def look(settings: Doctor) -> Iterator[Finding]:
    """Check the kinds of objects that jobs need, and the programs behind them."""
    from hardviews.doctor.reached import reach, refused
    from hardviews.launch.kubernetes.cluster import JOBS, QUEUES, ApiRefused

    reached = reach(settings)
    if reached.cluster is None:
        yield from reached.skip("Volcano")
        return
    try:
        groups = (JOBS, QUEUES.rpartition("/")[0])
        absent = [group.split("/")[2] for group in groups if reached.cluster.find(group) is None]
    except ApiRefused as error:
        yield refused("Volcano", error, "discover kinds of objects")
        return
    if absent:
        yield missing("Volcano", f"the cluster does not have the kinds of {' and '.join(absent)}", _INSTALL)
        return
    yield ok("Volcano", "the cluster has Volcano's jobs and queues")
    try:
        answer = reached.cluster.get(f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments")
    except ApiRefused as error:
        yield refused("controller", error, f"list deployments in {_NAMESPACE}")
        return
    for part in _PARTS:
        yield _of(part, [one for one in answer.get("items", []) if f"volcano-{part}" in one["metadata"]["name"]])


def _of(part: str, deployments: list[Any]) -> Finding:
    if not deployments:
        text = f"{_NAMESPACE} has no deployment of it; it may run elsewhere"
        return warning(part, text, f"kubectl get deployments -A | grep volcano-{part}")
    one = deployments[0]
    name = one["metadata"]["name"]
    images = [str(container.get("image", "")) for container in one["spec"]["template"]["spec"]["containers"]]
    version = next((match[1] for image in images if (match := re.search(r":v?(\d+\.\d+(?:\.\d+)?)", image))), "")
    if not (one.get("status") or {}).get("readyReplicas"):
        return missing(part, f"{name} has no pod that is ready", f"kubectl -n {_NAMESPACE} describe deployment {name}")
    if version and tuple(map(int, version.split(".")[:2])) < LEAST:
        text = f"{name} is {version}; {'.'.join(map(str, LEAST))} or later is needed"
        return missing(part, text, _INSTALL.replace("install", "upgrade", 1))
    return ok(part, f"{name} {version or 'of an unknown version'} is ready")


PROBE = Probe("Volcano", KUBERNETES, look, together=KUBERNETES)
