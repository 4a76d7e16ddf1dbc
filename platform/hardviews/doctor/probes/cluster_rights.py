"""Our rights on the cluster: a request to the API for each right in docs/rbac.yaml."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hardviews.doctor.finding import Finding, missing, ok, warning
from hardviews.doctor.probe import KUBERNETES, Probe
from hardviews.doctor.settings import Doctor

if TYPE_CHECKING:
    from hardviews.launch.kubernetes.cluster import Cluster
    from hardviews.launch.kubernetes.rights import Right

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_AT_ONCE = 4  # requests at the same time: fast, but a small load for the server


def look(settings: Doctor) -> Iterator[Finding]:
    """Check each right."""
    from hardviews.doctor.reached import reach, refused
    from hardviews.launch.kubernetes.cluster import ApiRefused
    from hardviews.launch.kubernetes.rights import RIGHTS

    reached = reach(settings)
    cluster = reached.cluster
    if cluster is None:
        yield from reached.skip("rights")
        return
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            given = list(pool.map(lambda right: _may(cluster, right, reached.namespace), RIGHTS))
    except ApiRefused as error:
        yield refused("rights", error, "create selfsubjectaccessreviews")
        return
    lacking = [right for right, allowed in zip(RIGHTS, given, strict=True) if not allowed]
    apply = f'sed "s|NAMESPACE|{reached.namespace}|; s|PERSON|YOU|" docs/rbac.yaml | kubectl apply -f -, by the owner'
    needed = [right for right in lacking if right.needed]
    if needed:
        text = f"in the namespace {reached.namespace} we may not {', '.join(map(str, needed))}: no job can be run"
        yield missing("rights", text, apply)
    else:
        yield ok("rights", f"jobs can be run in the namespace {reached.namespace}")
    purposes: dict[str, list[str]] = {}
    for right in lacking:
        if not right.needed:
            purposes.setdefault(right.purpose, []).append(str(right))
    if purposes:
        yield warning(
            "further rights",
            "; ".join(f"{', '.join(rights)} (for {purpose})" for purpose, rights in purposes.items()),
            apply,
        )
    elif not needed:
        yield ok("further rights", f"all {len(RIGHTS)} of docs/rbac.yaml are granted")


def _may(cluster: "Cluster", right: "Right", namespace: str) -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "verb": right.verb}
    attributes |= {"subresource": part} if part else {}
    attributes |= {} if right.everywhere else {"namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool((cluster.create(_REVIEWS, review).get("status") or {}).get("allowed"))


PROBE = Probe("rights", KUBERNETES, look, together=KUBERNETES)
