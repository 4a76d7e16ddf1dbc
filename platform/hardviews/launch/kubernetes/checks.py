"""Checks before submission what a cluster lacks for a job; things that we may not read are not checked."""

import re
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from hardviews.errors import UserError
from hardviews.launch.component import AGENT, HEADS
from hardviews.launch.findings import Findings
from hardviews.launch.kubernetes.cluster import JOBS, QUEUES, ApiRefused, Cluster
from hardviews.launch.kubernetes.limits import compare_queue, compare_quota, compare_range
from hardviews.launch.kubernetes.observed import phase
from hardviews.launch.kubernetes.submitter import TORCHX, Submitter
from hardviews.launch.visible_store import StoreOfJob

_ALIVE = ("", "Pending", "Inqueue", "Running", "Restarting")  # phases of a job whose pods train or will train
_STORE = ("AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_S3 = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_OTHER_IDENTITIES = {"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_PROFILE"}
_OTHER_IDENTITIES |= {"AWS_SHARED_CREDENTIALS_FILE"}
_ROLES = {"eks.amazonaws.com/role-arn"}  # annotations by which a service account has a web identity
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_RELEASE = "app.kubernetes.io/instance"
_LEVEL = "pod-security.kubernetes.io/enforce"


def ask(
    cluster: Cluster, job: Mapping[str, Any], namespace: str, rehearse: bool, submitter: Submitter = TORCHX
) -> Findings:
    """Find the reasons that would prevent a job from running.

    Args:
        cluster: the cluster.
        job: the manifest.
        namespace: namespace of the job.
        rehearse: let the API check the whole manifest too, unless a mistake was found already.
        submitter: tool that submits the job; the objects that it makes are not reported as missing.
    """
    coming = submitter.makes
    found = Findings()
    home = f"/api/v1/namespaces/{namespace}"

    def look(path: str) -> dict[str, Any] | None:
        """Read an object that the job needs; return an empty one if we may not read it, or if it is yet to be made."""
        if "/".join(path.split("/")[-2:]) in coming:
            return {}
        try:
            return cluster.find(path)
        except ApiRefused as error:
            if error.status == 403:
                found.add(Findings(unchecked=[_unread(path)]))
                return {}
            raise

    try:
        there = _namespace(cluster, home)
        if there is None:
            found.mistakes.append(
                f"The cluster has no namespace {namespace}. Make it, kubectl create namespace {namespace}, or name "
                "another: -cfg namespace=NAME, HARDVIEWS_NAMESPACE in the environment, or under [kubernetes] in "
                ".torchxconfig."
            )
            return found
        if not there:
            found.unchecked.append(_unread(home))
        if look(JOBS) is None:
            found.mistakes.append(
                "The cluster has no Volcano, which runs our jobs as gangs. Install it (docs/cluster.md says how), or "
                "name another cluster by KUBECONFIG."
            )
            return found
        found.add(_queue(look, job))
        found.mistakes += _objects(look, job, namespace)
        found.add(_volumes(look, job, namespace))
        found.add(_secrets(look, job, namespace))
        found.mistakes += _security(there, job, namespace)
        found.add(_limits(look, job, namespace))
        found.mistakes += _rivals(look, job, namespace, submitter.release)
        if rehearse and not found.mistakes:
            found.add(_rehearse(cluster, job, namespace, coming))
    except ApiRefused as error:
        found.mistakes.append(f"The cluster refused a question: {error.message}")
    except UserError as error:
        found.mistakes.append(str(error))
    return found


def _unread(path: str, verb: str = "") -> str:
    """Return the unread object and the missing right, in words.

    Args:
        path: path in the API.
        verb: verb of the right; by default the verb that reads the path.
    """
    parts = path.removeprefix("/api/v1/").split("/") if path.startswith("/api/v1/") else path.split("/")[4:]
    if not parts:
        return f"{path} (the right to read it is missing)"
    within = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        within = f" in the namespace {parts[1]}"
        parts = parts[2:]
    right = f"{verb or ('get' if len(parts) > 1 else 'list')} {parts[0]}{within}"
    return f"{' '.join(parts)} (the right to {right} is missing)"


def _namespace(cluster: Cluster, home: str) -> dict[str, Any] | None:
    """Return the namespace, None if there is none, and an empty object if we may not read it.

    This is the first request to the API.

    Raises:
        NotKubernetes: the answer is not from a Kubernetes API.
        ApiRefused: any other error.
    """
    try:
        return {"metadata": {}} | cluster.get(home)
    except ApiRefused as error:
        if not error.kubernetes and error.status < 500:
            raise cluster.foreign(error) from error
        if error.status not in (403, 404):
            raise
        return {} if error.status == 403 else None


Look = Callable[[str], "dict[str, Any] | None"]


def _queue(look: Look, job: Mapping[str, Any]) -> Findings:
    queue = str(job["spec"]["queue"])
    there = look(f"{QUEUES}/{queue}")
    if there is None:
        names = [item["metadata"]["name"] for item in (look(QUEUES) or {}).get("items", [])]
        known = ", ".join(sorted(set(names) - {"root"}))
        return Findings(
            [
                f"The cluster has no queue {queue}" + (f"; it has {known}" if known else "") + ". Choose one by -cfg "
                "queue=NAME, by HARDVIEWS_QUEUE in the environment, or under [kubernetes] in .torchxconfig."
            ]
        )
    if (state := there.get("status", {}).get("state", "Open")) not in ("Open", ""):
        return Findings(
            [f"The queue {queue} takes no jobs: it is {state}. Choose another by -cfg queue=NAME, or have it opened."]
        )
    return compare_queue(there, job)


def _limits(look: Look, job: Mapping[str, Any], namespace: str) -> Findings:
    """Compare the pods with the quotas and the limit ranges of the namespace."""
    home, found = f"/api/v1/namespaces/{namespace}", Findings()
    for quota in (look(f"{home}/resourcequotas") or {}).get("items", []):
        found.add(compare_quota(quota, job, namespace))
    for limits in (look(f"{home}/limitranges") or {}).get("items", []):
        found.mistakes += compare_range(limits, job, namespace)
    return found


def _security(there: Mapping[str, Any], job: Mapping[str, Any], namespace: str) -> Iterator[str]:
    """Yield the mistakes against the namespace's level: our pods keep the strictest, except for folders of the node."""
    level = (there.get("metadata", {}).get("labels") or {}).get(_LEVEL, "privileged")
    folders = _each(
        volume["hostPath"]["path"]
        for task in job["spec"]["tasks"]
        for volume in task["template"]["spec"].get("volumes", [])
        if "hostPath" in volume
    )
    if folders and level != "privileged":
        yield (
            f"The namespace {namespace} admits only pods of the level {level}, and those may not mount folders of a "
            f"node ({', '.join(folders)}). Mount a volume claim instead, --mount type=volume,src=CLAIM,dst=FOLDER."
        )


def _objects(look: Look, job: Mapping[str, Any], namespace: str) -> Iterator[str]:
    pods = [task["template"]["spec"] for task in job["spec"]["tasks"]]
    home = f"/api/v1/namespaces/{namespace}"
    for account in _each(pod.get("serviceAccountName") for pod in pods):
        if look(f"{home}/serviceaccounts/{account}") is None:
            yield (
                f"The namespace {namespace} has no service account {account}. Make it, kubectl -n {namespace} create "
                f"serviceaccount {account}, or name another by -cfg service_account=NAME."
            )
    priority = job["spec"].get("priorityClassName")
    if priority and look(f"/apis/scheduling.k8s.io/v1/priorityclasses/{priority}") is None:
        yield f"The cluster has no priority class {priority}. Name another by --priority; kubectl get priorityclasses."


def _volumes(look: Look, job: Mapping[str, Any], namespace: str) -> Findings:
    """Check the volume claims of the pods, and the storage classes of claims without a volume."""
    home, found = f"/api/v1/namespaces/{namespace}", Findings()
    pods: dict[str, int] = {}
    for task in job["spec"]["tasks"]:
        for volume in task["template"]["spec"].get("volumes", []):
            if "persistentVolumeClaim" in volume:
                claim = str(volume["persistentVolumeClaim"]["claimName"])
                pods[claim] = pods.get(claim, 0) + int(task["replicas"])
    for claim, number in sorted(pods.items()):
        there = look(f"{home}/persistentvolumeclaims/{claim}")
        if there is None:
            found.mistakes.append(
                f"The namespace {namespace} has no volume claim {claim}. Make it, or name another in --mount."
            )
            continue
        spec, state = there.get("spec") or {}, (there.get("status") or {}).get("phase", "Bound")
        kind, modes = spec.get("storageClassName"), set(spec.get("accessModes") or ())
        if state == "Lost":
            found.mistakes.append(f"The volume of the claim {claim} is lost. Make the claim anew, or name another.")
        elif state == "Pending" and kind and look(f"{_CLASSES}/{kind}") is None:
            found.mistakes.append(
                f"The volume claim {claim} waits for the storage class {kind}, which the cluster does not have. "
                "`kubectl get storageclasses` lists those that it has."
            )
        elif state == "Pending" and not kind:
            found.remarks.append(
                f"The volume claim {claim} has no volume and names no storage class: the pods wait until it has one."
            )
        if number > 1 and modes == {"ReadWriteOncePod"}:
            found.mistakes.append(
                f"The volume claim {claim} serves one pod only (ReadWriteOncePod), and {number} pods of the job mount "
                "it. Make one with ReadWriteMany or ReadOnlyMany."
            )
        elif number > 1 and modes == {"ReadWriteOnce"}:
            found.remarks.append(
                f"The volume claim {claim} serves one node only (ReadWriteOnce), and {number} pods of the job mount "
                "it: those that find no room there wait. ReadWriteMany and ReadOnlyMany serve several nodes."
            )
    return found


def _secrets(look: Look, job: Mapping[str, Any], namespace: str) -> Findings:
    found, home = Findings(), f"/api/v1/namespaces/{namespace}"
    pods = [task["template"]["spec"] for task in job["spec"]["tasks"]]
    for name in _each(entry["name"] for pod in pods for entry in pod.get("imagePullSecrets", [])):
        if look(f"{home}/secrets/{name}") is None:
            found.mistakes.append(
                f"The namespace {namespace} has no secret {name} for pulling images. Make it, kubectl -n {namespace} "
                f"create secret docker-registry {name} --docker-server=..., or leave it out."
            )
    for pod in pods:
        found.add(_variables(look, pod, namespace))
    return found


def _variables(look: Look, pod: Mapping[str, Any], namespace: str) -> Findings:
    """Check the Secrets of a pod's environment, and its credentials for S3."""
    found, home = Findings(), f"/api/v1/namespaces/{namespace}"
    container = pod["containers"][0]
    names = [entry["secretRef"]["name"] for entry in container.get("envFrom", []) if "secretRef" in entry]
    given = {entry["name"] for entry in container.get("env", [])}
    readable = True
    for name in names:
        there = look(f"{home}/secrets/{name}")
        if there is None:
            found.mistakes.append(
                f"The namespace {namespace} has no secret {name}. Make it, kubectl -n {namespace} create secret "
                f"generic {name} --from-literal=AWS_ACCESS_KEY_ID=..., or name another by --secret."
            )
        keys = set((there or {}).get("data") or {})
        given |= keys
        readable = readable and bool(keys)
        if odd := sorted(key for key in keys if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key)):
            found.mistakes.append(
                f"The secret {name} has keys that cannot be environment variables: {', '.join(odd)}. Name them as "
                f"the variables are, for example {', '.join(_S3)}."
            )
    words = [*container.get("command", []), *(entry.get("value") or "" for entry in container.get("env", []))]
    lacking = [key for key in _S3 if key not in given]
    if not readable or not lacking or not any(word.startswith("s3://") for word in words):
        return found
    if len(lacking) == 1 and names:
        found.mistakes.append(
            f"The secrets {', '.join(names)} hold no {lacking[0]}, which S3 needs beside its other half. Add "
            "the key, or name a further secret by --secret."
        )
    elif not set(words) & set(HEADS) and not given & _OTHER_IDENTITIES and not _web_identity(look, pod, home):
        found.remarks.append(
            f"Nothing gives the pods {' and '.join(_S3)}, and their service account has no web identity: S3 knows them "
            "only if their nodes have a role. Name a Secret with both keys: --secret NAME."
        )
    return found


def _web_identity(look: Look, pod: Mapping[str, Any], home: str) -> bool:
    """Return whether the pod's service account has a role in the object store, or we may not read that."""
    account = look(f"{home}/serviceaccounts/{pod.get('serviceAccountName', 'default')}")
    return account == {} or bool(set(((account or {}).get("metadata") or {}).get("annotations") or {}) & _ROLES)


def _rivals(look: Look, job: Mapping[str, Any], namespace: str, release: str) -> Iterator[str]:
    """Yield jobs that train into the same output; the output does not show a job that has not begun yet.

    A job of the same release is replaced by the new one, or is the same.
    """
    output = _output(job)
    if output is None:
        return
    own = job["metadata"]["name"]  # if it was submitted already
    for other in (look(f"{JOBS}/namespaces/{namespace}/jobs") or {}).get("items", []):
        mine = release and (other["metadata"].get("labels") or {}).get(_RELEASE) == release
        if other["metadata"]["name"] != own and not mine and _output(other) == output and phase(other) in _ALIVE:
            name = other["metadata"]["name"]
            yield (
                f"The job {name} in the namespace {namespace} trains into {output} already (it is "
                f"{phase(other) or 'Pending'}). Wait for it, cancel it (torchx cancel kubernetes://torchx/{namespace}:"
                f"{name}), or give another --output."
            )


def _output(job: Mapping[str, Any]) -> str | None:
    """Return the output of a pretraining job, None for other jobs."""
    for task in job["spec"]["tasks"]:
        words = task["template"]["spec"]["containers"][0].get("command", [])
        if AGENT in words and "--output" in words:
            return str(words[words.index("--output") + 1]).rstrip("/")
    return None


def store_of(cluster: Cluster, job: Mapping[str, Any], namespace: str) -> StoreOfJob:
    """Return the settings of the object store in the variables and Secrets of the working pods."""
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


def _rehearse(cluster: Cluster, job: Mapping[str, Any], namespace: str, coming: Collection[str]) -> Findings:
    """Let the API check the job and one pod of every task, without keeping them."""
    try:
        cluster.create(f"{JOBS}/namespaces/{namespace}/jobs", job, dryRun="All")
    except ApiRefused as error:
        return Findings([_refusal("the job", error, namespace)])
    found = Findings()
    for task in job["spec"]["tasks"]:
        template = task["template"]
        name = f"{job['metadata']['name']}-{task['name']}-0"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": name},
            "spec": {
                key: value
                for key, value in template["spec"].items()
                if key != "serviceAccountName" or f"serviceaccounts/{value}" not in coming
            },
        }
        path = f"/api/v1/namespaces/{namespace}/pods"
        try:
            cluster.create(path, pod, dryRun="All")
        except ApiRefused as error:
            # A user who may create jobs need not have the right to create pods: this says nothing about the pod.
            if error.status != 403 or "cannot create resource" not in error.message:
                found.mistakes.append(_refusal(f"a pod of the role {task['name']}", error, namespace))
            else:
                found.add(Findings(unchecked=[f"whether the API admits {_unread(path, 'create')}"]))
    return found


def _refusal(what: str, error: ApiRefused, namespace: str) -> str:
    if error.status == 403 and "cannot create resource" in error.message:
        return f"We may not create {what} in the namespace {namespace}: {error.message}. Ask the cluster's owner."
    return f"The cluster does not accept {what} in the namespace {namespace}: {error.message}"


def _each(names: Any) -> list[str]:
    return sorted({name for name in names if name})
