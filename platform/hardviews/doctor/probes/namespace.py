"""The namespace of the jobs: whether it exists, its level of Pod Security, and the Secrets that jobs name."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hardviews.doctor.finding import Finding, missing, ok, skipped
from hardviews.doctor.probe import KUBERNETES, Probe
from hardviews.doctor.settings import Doctor

if TYPE_CHECKING:
    from hardviews.doctor.reached import Reached

_LEVEL = "pod-security.kubernetes.io/enforce"


def look(settings: Doctor) -> Iterator[Finding]:
    """Read the namespace, its Secrets by name, and the default service account."""
    from hardviews.doctor.reached import reach, refused
    from hardviews.launch.kubernetes.cluster import ApiRefused

    reached = reach(settings)
    if reached.cluster is None:
        yield from reached.skip("namespace")
        return
    name = reached.namespace
    try:
        found = reached.cluster.find(f"/api/v1/namespaces/{name}")
    except ApiRefused as error:
        yield refused("namespace", error, "get namespaces")
    else:
        if found is None:
            yield missing("namespace", f"the cluster has no namespace {name}", f"kubectl create namespace {name}")
            return
        level = (found["metadata"].get("labels") or {}).get(_LEVEL)
        # Pods of jobs satisfy the strictest level, unless they mount a node's folder or get further capabilities.
        text = f"Pod Security level {level}, which jobs satisfy" if level else "no Pod Security level is enforced"
        yield ok("namespace", f"{name} exists; {text}")
    yield from _secrets(reached)
    try:
        account = reached.cluster.find(f"/api/v1/namespaces/{name}/serviceaccounts/default") or {}
    except ApiRefused as error:
        yield refused("image pull", error, "get serviceaccounts")
        return
    pulls = ", ".join(entry["name"] for entry in account.get("imagePullSecrets") or [])
    if pulls:
        yield ok("image pull", f"the default service account has {pulls}")
    else:
        option = "-cfg image_pull_secrets=NAME"
        yield ok("image pull", f"no secret by default; a job with a private image needs {option}")


def _secrets(reached: "Reached") -> Iterator[Finding]:
    """Check that the Secrets in HARDVIEWS_SECRETS exist; their content is not kept."""
    from hardviews.doctor.reached import refused
    from hardviews.launch.kubernetes.cluster import ApiRefused
    from hardviews.launch.site import cluster_options

    home = f"/api/v1/namespaces/{reached.namespace}"
    names = cluster_options().get("secrets", [])
    if not names:
        text = "none is named: jobs have credentials for S3 only if their nodes or service account have a role"
        yield skipped("job secrets", text, "HARDVIEWS_SECRETS=NAME")
    assert reached.cluster is not None
    for name in names:
        try:
            there = reached.cluster.find(f"{home}/secrets/{name}") is not None
        except ApiRefused as error:
            yield refused("job secrets", error, "get secrets")
            return
        if there:
            yield ok("job secrets", f"{name} exists")
        else:
            make = f"kubectl -n {reached.namespace} create secret generic {name} --from-literal=AWS_ACCESS_KEY_ID=..."
            yield missing("job secrets", f"the namespace has no secret {name}", f"{make}, or correct HARDVIEWS_SECRETS")


PROBE = Probe("namespace", KUBERNETES, look, together=KUBERNETES)
