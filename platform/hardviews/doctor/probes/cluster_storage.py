"""The default storage class, which volume claims without one need."""

from collections.abc import Iterator

from hardviews.doctor.finding import Finding, ok, warning
from hardviews.doctor.probe import KUBERNETES, Probe
from hardviews.doctor.settings import Doctor

_DEFAULT = "storageclass.kubernetes.io/is-default-class"


def look(settings: Doctor) -> Iterator[Finding]:
    """Read all storage classes."""
    from hardviews.doctor.reached import reach, refused
    from hardviews.launch.kubernetes.cluster import ApiRefused

    reached = reach(settings)
    if reached.cluster is None:
        yield from reached.skip("storage class")
        return
    try:
        classes = reached.cluster.get("/apis/storage.k8s.io/v1/storageclasses").get("items", [])
    except ApiRefused as error:
        yield refused("storage class", error, "list storageclasses")
        return
    names = [one["metadata"]["name"] for one in classes]
    defaults = [
        one["metadata"]["name"] for one in classes if (one["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"
    ]
    if defaults:
        yield ok("storage class", f"{', '.join(defaults)} by default")
    else:
        known = f"; there are {', '.join(names)}" if names else ""
        text = f"none by default{known}. Only volume claims without a class need it; data and output on S3 do not"
        yield warning(
            "storage class", text, f"kubectl annotate storageclass {names[0] if names else 'NAME'} {_DEFAULT}=true"
        )


PROBE = Probe("storage class", KUBERNETES, look, together=KUBERNETES)
