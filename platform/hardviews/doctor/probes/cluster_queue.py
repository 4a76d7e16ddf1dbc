"""The Volcano queue: whether it exists and is open, and its limits."""

from collections.abc import Iterator, Mapping
from typing import Any

from hardviews.doctor.finding import Finding, missing, ok, warning
from hardviews.doctor.probe import KUBERNETES, Probe
from hardviews.doctor.settings import Doctor

_DEFAULT = "default"


def look(settings: Doctor) -> Iterator[Finding]:
    """Read the queue."""
    from hardviews.doctor.reached import reach, refused
    from hardviews.launch.kubernetes.cluster import QUEUES, ApiRefused

    reached = reach(settings)
    if reached.cluster is None:
        yield from reached.skip("queue")
        return
    name = settings.queue or _DEFAULT
    try:
        found = reached.cluster.find(f"{QUEUES}/{name}")
        if found is None:
            names = [one["metadata"]["name"] for one in (reached.cluster.find(QUEUES) or {}).get("items", [])]
            known = ", ".join(sorted(set(names) - {"root"}))
            text = f"the cluster has no queue {name}" + (f"; it has {known}" if known else "")
            make = f'sed "s|QUEUE|{name}|" docs/queue.yaml | kubectl create -f -'
            yield missing("queue", text, f"Name another by --queue, or create it: {make}")
            return
    except ApiRefused as error:
        yield refused("queue", error, "get queues")
        return
    state = (found.get("status") or {}).get("state") or "Open"
    if state != "Open":
        text = f"{name} takes no jobs: it is {state}"
        yield missing("queue", text, f"Name another by --queue, or ask the cluster's owner to open {name}.")
        return
    yield _capacity(name, found)


def _capacity(name: str, queue: Mapping[str, Any]) -> Finding:
    allowed = (queue.get("spec") or {}).get("capability") or {}
    taken = (queue.get("status") or {}).get("allocated") or {}
    if not allowed:
        return ok("queue", f"{name} is open, without a limit of its own")
    parts = [f"{amount} {kind} ({taken.get(kind, 0)} in use)" for kind, amount in sorted(allowed.items())]
    text = f"{name} is open, at most {', '.join(parts)}"
    if any(str(allowed[kind]) == "0" for kind in allowed):
        zero = ", ".join(kind for kind in sorted(allowed) if str(allowed[kind]) == "0")
        remedy = f'kubectl patch queue {name} --type=merge --patch=\'{{"spec":{{"capability":{{"{zero}":"N"}}}}}}\''
        return warning("queue", f"{text}: jobs that ask for {zero} wait for ever", remedy)
    return ok("queue", text)


PROBE = Probe("queue", KUBERNETES, look, together=KUBERNETES)
