"""Compares the pods of a job with the limits of its namespace and its queue. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from hardviews.launch.findings import Findings
from hardviews.launch.kubernetes.observed import Object, number, role_name
from hardviews.launch.kubernetes.room import amount

_OPTIONS = {"cpu": "--cpu", "memory": "--memMB", "nvidia.com/gpu": "--gpu", "pods": "-j", "count/pods": "-j"}
HEAD = "coordinator"  # role whose pod has a fixed size
_JOBS = "count/jobs.batch.volcano.sh"


def compare_quota(quota: Object, job: Object, namespace: str) -> Findings:
    """Compare the sum of the pods of a job with a ResourceQuota.

    Args:
        quota: the ResourceQuota.
        job: the manifest of the job.
        namespace: namespace of both.
    """
    name, spec = quota["metadata"]["name"], quota.get("spec") or {}
    what = f"The quota {name} of the namespace {namespace}"
    if spec.get("scopes") or spec.get("scopeSelector"):
        return Findings(
            unchecked=[f"the quota {name} of the namespace {namespace} (it counts only some kinds of pods)"]
        )
    status = quota.get("status") or {}
    return _compare(what, status.get("hard") or spec.get("hard") or {}, status.get("used") or {}, job)


def compare_queue(queue: Object, job: Object) -> Findings:
    """Compare the sum of the pods of a job with the capability of its Volcano queue."""
    what = f"The queue {job['spec']['queue']}"
    allowed = (queue.get("spec") or {}).get("capability") or {}
    return _compare(what, allowed, (queue.get("status") or {}).get("allocated") or {}, job)


def compare_range(limits: Object, job: Object, namespace: str) -> list[str]:
    """Return the mistakes that a LimitRange shows in the pods of a job."""
    what = f"The limit range {limits['metadata']['name']} of the namespace {namespace}"
    return [
        text
        for entry in (limits.get("spec") or {}).get("limits") or []
        if entry.get("type") in ("Container", "Pod")
        for task in job["spec"]["tasks"]
        for text in _out_of_range(what, entry, task)
    ]


def _out_of_range(what: str, entry: Object, task: Object) -> Iterator[str]:
    whose = f"a {str(entry['type']).lower()} of the role {role_name(task)}"
    fixed = role_name(task) == HEAD
    pod = task["template"]["spec"]
    requests, limits = _sums(pod, "requests"), _sums(pod, "limits")
    for name, text in (entry.get("max") or {}).items():
        if (most := limits.get(name)) is not None and _exceeds(most, number(text)):
            yield (
                f"{what} allows at most {amount(name, number(text))} of {name}, and {whose} may take "
                f"{amount(name, most)}. {_remedy(name, 'less', fixed)} the range changed."
            )
    for name, text in (entry.get("min") or {}).items():
        if (least := requests.get(name)) is not None and _exceeds(number(text), least):
            yield (
                f"{what} wants at least {amount(name, number(text))} of {name}, and {whose} asks for "
                f"{amount(name, least)}. {_remedy(name, 'more', fixed)} the range changed."
            )
    for name, text in (entry.get("maxLimitRequestRatio") or {}).items():
        if requests.get(name) and _exceeds(ratio := limits.get(name, 0.0) / requests[name], number(text)):
            yield (
                f"{what} allows a limit of {text} times the request of {name}, and {whose} has {ratio:.3g} times. Have "
                "the range changed."
            )


def _compare(what: str, allowed: Mapping[str, Any], used: Mapping[str, Any], job: Object) -> Findings:
    found = Findings()
    least, most = total(job, "minAvailable"), total(job, "replicas")
    for name, text in allowed.items():
        resource = name.removeprefix("requests.").removeprefix("limits.")
        limit, taken = number(text), number(used.get(name, "0"))
        if not least.get(name):
            continue
        allows = f"{what} allows {amount(resource, limit)} of {name} in all"
        needs = f"the job needs {amount(resource, least[name])} to begin"
        if _exceeds(least[name], limit):
            found.mistakes.append(
                f"{allows}, and {needs}: it never fits. {_remedy(resource, 'less')} the limit raised."
            )
        elif _exceeds(taken + least[name], limit):
            found.remarks.append(
                f"{allows}, {amount(resource, taken)} are in use, and {needs}: it waits until there is room."
            )
        elif _exceeds(most[name], limit):
            found.remarks.append(
                f"{allows}, and the job would take {amount(resource, most[name])} with all its nodes: some of them "
                "will not come."
            )
    return found


def total(job: Object, count: str) -> dict[str, float]:
    """Return the amounts of a job by their names in a quota.

    Args:
        job: the manifest.
        count: field of a task with its number of pods: `minAvailable` or `replicas`.
    """
    found: defaultdict[str, float] = defaultdict(float, {_JOBS: 1.0})
    for task in job["spec"]["tasks"]:
        pods, pod = int(task[count]), task["template"]["spec"]
        found["pods"] += pods
        found["count/pods"] += pods
        for name, quantity in _sums(pod, "requests").items():
            found[name] += pods * quantity
            found[f"requests.{name}"] += pods * quantity
        for name, quantity in _sums(pod, "limits").items():
            found[f"limits.{name}"] += pods * quantity
    return dict(found)


def _sums(pod: Object, kind: str) -> dict[str, float]:
    """Return the requests or limits of a pod's containers by resource."""
    found: defaultdict[str, float] = defaultdict(float)
    for container in pod["containers"]:
        for name, text in ((container.get("resources") or {}).get(kind) or {}).items():
            found[name] += number(text)
    return dict(found)


def _exceeds(quantity: float, limit: float) -> bool:
    return quantity > limit * (1 + 1e-9)


def _remedy(resource: str, which: str, fixed: bool = False) -> str:
    if fixed:
        return "The size of that pod is fixed: have"
    option = _OPTIONS.get(resource)
    return f"Ask for {which}{f' ({option})' if option else ''}, or have"
