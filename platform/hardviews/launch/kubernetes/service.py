"""The Service that gives the pods of elastic jobs their names; made once in a namespace."""

import copy
from collections.abc import Mapping
from typing import Any

from hardviews.launch.kubernetes.cluster import ApiRefused, Cluster
from hardviews.launch.kubernetes.manifest import SERVICE

_EXISTS = 409


def with_names(cluster: Cluster, namespace: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job whose pods have lasting names.

    If we may neither read nor make the Service, the job uses the Service that Volcano makes for every job.

    Args:
        cluster: the cluster.
        namespace: namespace of the job.
        job: the manifest; it is not changed.
    """
    made = copy.deepcopy(dict(job))
    pods = [task["template"]["spec"] for task in made["spec"]["tasks"]]
    ours = [pod for pod in pods if pod.get("subdomain") == SERVICE["metadata"]["name"]]
    if ours and not _made(cluster, namespace):
        for pod in ours:
            del pod["subdomain"]
    return made


def _made(cluster: Cluster, namespace: str) -> bool:
    """Return whether the Service exists now, and has the right selector."""
    path = f"/api/v1/namespaces/{namespace}/services"
    try:
        found = cluster.find(f"{path}/{SERVICE['metadata']['name']}")
        if found is not None:
            spec = found.get("spec", {})
            return all(spec.get(key) == SERVICE["spec"][key] for key in ("clusterIP", "selector"))
        cluster.create(path, SERVICE)
    except ApiRefused as error:
        return error.status == _EXISTS  # another submission made it meanwhile
    return True
