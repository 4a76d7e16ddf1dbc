"""What a cluster lacks for a job, asked before submission; what we may not ask is not checked."""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hardviews.errors import UserError
from hardviews.launch.component import AGENT
from hardviews.launch.kubernetes.cluster import JOBS, QUEUES, ApiRefused, Cluster
from hardviews.launch.kubernetes.observed import phase
from hardviews.launch.visible_store import StoreOfJob

_ALIVE = ("", "Pending", "Inqueue", "Running", "Restarting")  # phases of a job whose pods train or will train
_STORE = ("AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_S3 = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def ask(cluster: Cluster, job: Mapping[str, Any], namespace: str, rehearse: bool) -> list[str]:
    """Lists what would keep a job from running, each with its remedy.

    Args:
        cluster: the cluster.
        job: the manifest.
        namespace: where it is to run.
        rehearse: have the API check the whole manifest too, unless something is wrong already.
    """
    found: list[str] = []
    home = f"/api/v1/namespaces/{namespace}"

    def look(path: str) -> dict[str, Any] | None:
        """Reads what the job needs; an empty object where we may not know."""
        try:
            return cluster.find(path)
        except ApiRefused as error:
            if error.status == 403:
                return {}
            raise

    try:
        if not _exists(cluster, home):
            return [
                f"The cluster has no namespace {namespace}. Make it, kubectl create namespace {namespace}, or name "
                "another: -cfg namespace=NAME, HARDVIEWS_NAMESPACE in the environment, or under [kubernetes] in "
                ".torchxconfig."
            ]
        if look(JOBS) is None:
            return [
                "The cluster has no Volcano, which runs our jobs as gangs. Install it (docs/cluster.md says how), or "
                "name another cluster by KUBECONFIG."
            ]
        found += _queue(look, str(job["spec"]["queue"]))
        found += _objects(look, job, namespace)
        found += _secrets(look, job, namespace)
        found += _rivals(look, job, namespace)
        if rehearse and not found:
            found += _rehearse(cluster, job, namespace)
    except ApiRefused as error:
        found.append(f"The cluster refused a question: {error.message}")
    except UserError as error:
        found.append(str(error))
    return found


def _exists(cluster: Cluster, home: str) -> bool:
    """Whether the namespace exists, or we may not know.

    Raises:
        NotKubernetes: the answer is not that of a Kubernetes API: this is the first question to it.
        ApiRefused: any other error.
    """
    try:
        cluster.get(home)
    except ApiRefused as error:
        if not error.kubernetes and error.status < 500:
            raise cluster.foreign(error) from error
        if error.status not in (403, 404):
            raise
        return error.status == 403
    return True


Look = Callable[[str], "dict[str, Any] | None"]


def _queue(look: Look, queue: str) -> Iterator[str]:
    there = look(f"{QUEUES}/{queue}")
    if there is None:
        names = [item["metadata"]["name"] for item in (look(QUEUES) or {}).get("items", [])]
        known = ", ".join(sorted(set(names) - {"root"}))
        yield (
            f"The cluster has no queue {queue}" + (f"; it has {known}" if known else "") + ". Choose one by -cfg "
            "queue=NAME, by HARDVIEWS_QUEUE in the environment, or under [kubernetes] in .torchxconfig."
        )
    elif (state := there.get("status", {}).get("state", "Open")) not in ("Open", ""):
        yield f"The queue {queue} takes no jobs: it is {state}. Choose another by -cfg queue=NAME, or have it opened."


def _objects(look: Look, job: Mapping[str, Any], namespace: str) -> Iterator[str]:
    pods = [task["template"]["spec"] for task in job["spec"]["tasks"]]
    home = f"/api/v1/namespaces/{namespace}"
    for account in _each(pod.get("serviceAccountName") for pod in pods):
        if look(f"{home}/serviceaccounts/{account}") is None:
            yield (
                f"The namespace {namespace} has no service account {account}. Make it, kubectl -n {namespace} create "
                f"serviceaccount {account}, or name another by -cfg service_account=NAME."
            )
    for claim in _each(
        volume["persistentVolumeClaim"]["claimName"]
        for pod in pods
        for volume in pod.get("volumes", [])
        if "persistentVolumeClaim" in volume
    ):
        if look(f"{home}/persistentvolumeclaims/{claim}") is None:
            yield f"The namespace {namespace} has no volume claim {claim}. Make it, or name another in --mount."
    priority = job["spec"].get("priorityClassName")
    if priority and look(f"/apis/scheduling.k8s.io/v1/priorityclasses/{priority}") is None:
        yield f"The cluster has no priority class {priority}. Name another by --priority; kubectl get priorityclasses."


def _secrets(look: Look, job: Mapping[str, Any], namespace: str) -> Iterator[str]:
    home = f"/api/v1/namespaces/{namespace}"
    pods = [task["template"]["spec"] for task in job["spec"]["tasks"]]
    for name in _each(entry["name"] for pod in pods for entry in pod.get("imagePullSecrets", [])):
        if look(f"{home}/secrets/{name}") is None:
            yield (
                f"The namespace {namespace} has no secret {name} for pulling images. Make it, kubectl -n {namespace} "
                f"create secret docker-registry {name} --docker-server=..., or leave it out."
            )
    for pod in pods:
        container = pod["containers"][0]
        names = [entry["secretRef"]["name"] for entry in container.get("envFrom", []) if "secretRef" in entry]
        given = {entry["name"] for entry in container.get("env", [])}
        readable = bool(names)
        for name in names:
            there = look(f"{home}/secrets/{name}")
            if there is None:
                yield (
                    f"The namespace {namespace} has no secret {name}. Make it, kubectl -n {namespace} create secret "
                    f"generic {name} --from-literal=AWS_ACCESS_KEY_ID=..., or name another by --secret."
                )
            keys = set((there or {}).get("data") or {})
            given |= keys
            readable = readable and bool(keys)
            if odd := sorted(key for key in keys if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key)):
                yield (
                    f"The secret {name} has keys that cannot be environment variables: {', '.join(odd)}. Name them as "
                    f"the variables are, for example {', '.join(_S3)}."
                )
        words = [*container.get("command", []), *(entry.get("value") or "" for entry in container.get("env", []))]
        if readable and any(word.startswith("s3://") for word in words):
            lacking = [key for key in _S3 if key not in given]
            if len(lacking) == 1:
                yield (
                    f"The secrets {', '.join(names)} hold no {lacking[0]}, which S3 needs beside its other half. Add "
                    "the key, or name a further secret by --secret."
                )


def _rivals(look: Look, job: Mapping[str, Any], namespace: str) -> Iterator[str]:
    """Jobs that train into the same output: one of them may not have begun, so that nothing in the output shows it."""
    output = _output(job)
    if output is None:
        return
    for other in (look(f"{JOBS}/namespaces/{namespace}/jobs") or {}).get("items", []):
        if _output(other) == output and phase(other) in _ALIVE:
            name = other["metadata"]["name"]
            yield (
                f"The job {name} in the namespace {namespace} trains into {output} already (it is "
                f"{phase(other) or 'Pending'}). Wait for it, cancel it (torchx cancel kubernetes://torchx/{namespace}:"
                f"{name}), or give another --output."
            )


def _output(job: Mapping[str, Any]) -> str | None:
    """The output of a pretraining job, None of others."""
    for task in job["spec"]["tasks"]:
        words = task["template"]["spec"]["containers"][0].get("command", [])
        if AGENT in words and "--output" in words:
            return str(words[words.index("--output") + 1]).rstrip("/")
    return None


def store_of(cluster: Cluster, job: Mapping[str, Any], namespace: str) -> StoreOfJob:
    """Returns what the working pods' variables and Secrets say of their object store."""
    container = job["spec"]["tasks"][-1]["template"]["spec"]["containers"][0]
    variables: dict[str, str] = {}
    complete = True
    for entry in container.get("envFrom", []):
        try:
            data = cluster.get(f"/api/v1/namespaces/{namespace}/secrets/{entry['secretRef']['name']}").get("data")
            variables |= {key: b64decode(value).decode() for key, value in (data or {}).items() if key in _STORE}
        except (ApiRefused, UserError, ValueError):
            complete = False
    # A variable of the container's own wins over those of its Secrets.
    given = {entry["name"]: entry.get("value") or "" for entry in container.get("env", [])}
    return StoreOfJob(variables | {key: value for key, value in given.items() if key in _STORE}, complete)


def _rehearse(cluster: Cluster, job: Mapping[str, Any], namespace: str) -> Iterator[str]:
    """Lets the API check the job and one pod of every task, without keeping them."""
    try:
        cluster.create(f"{JOBS}/namespaces/{namespace}/jobs", job, dryRun="All")
    except ApiRefused as error:
        yield _refusal("the job", error, namespace)
        return
    for task in job["spec"]["tasks"]:
        template = task["template"]
        name = f"{job['metadata']['name']}-{task['name']}-0"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": name},
            "spec": template["spec"],
        }
        try:
            cluster.create(f"/api/v1/namespaces/{namespace}/pods", pod, dryRun="All")
        except ApiRefused as error:
            # Who may create jobs need not be allowed to create pods: that is no verdict on the pod.
            if error.status != 403 or any(word in error.message for word in ("PodSecurity", "quota", "LimitRange")):
                yield _refusal(f"a pod of the role {task['name']}", error, namespace)


def _refusal(what: str, error: ApiRefused, namespace: str) -> str:
    if error.status == 403 and "cannot create resource" in error.message:
        return f"We may not create {what} in the namespace {namespace}: {error.message}. Ask the cluster's owner."
    return f"The cluster does not accept {what} in the namespace {namespace}: {error.message}"


def _each(names: Any) -> list[str]:
    return sorted({name for name in names if name})
