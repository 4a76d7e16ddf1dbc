"""TorchX's scheduler `kubernetes`, for jobs whose number of pods changes."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Dict, List  # noqa: UP035

from torchx.runner.config import apply
from torchx.schedulers.api import AppDryRunInfo, DescribeAppResponse, ListAppResponse, Stream, filter_regex
from torchx.schedulers.kubernetes_scheduler import (
    KubernetesJob,
    KubernetesScheduler,
    sanitize_for_serialization,
)
from torchx.specs import AppDef, AppState, runopts

from hardviews.errors import UserError
from hardviews.launch.findings import Findings
from hardviews.launch.kubernetes.checks import ask, store_of
from hardviews.launch.kubernetes.cluster import JOBS, ApiRefused, Cluster
from hardviews.launch.kubernetes.logs import lines
from hardviews.launch.kubernetes.manifest import cache_disk, refine
from hardviews.launch.kubernetes.mistakes import validate
from hardviews.launch.kubernetes.observed import phase
from hardviews.launch.kubernetes.service import with_names
from hardviews.launch.kubernetes.status import OVER, STATES, response
from hardviews.launch.kubernetes.submitter import TORCHX, Submitter
from hardviews.launch.kubernetes.surroundings import around
from hardviews.launch.pod_mistakes import not_a_switch
from hardviews.launch.pod_options import PodOptions, switch
from hardviews.launch.site import cluster_options
from hardviews.launch.visible_store import StoreOfJob

# TorchX 0.7.0 compares with these spellings.
_LIST, _PAIRS = List[str], Dict[str, str]  # noqa: UP006
_JOB_LABEL = "volcano.sh/job-name"
_COMMANDS = "/apis/bus.volcano.sh/v1alpha1"
_LOOK_AGAIN = 3.0  # seconds between two looks at the state of a job whose log is followed


class ElasticKubernetesScheduler(KubernetesScheduler):  # type: ignore[misc]  # torchx 0.7.0 ships no types
    """TorchX's Kubernetes scheduler with support of elastic jobs.

    Names of jobs are `NAMESPACE:NAME`; `NAME` alone is looked for in the namespace for submissions.
    """

    def __init__(self, session_name: str, client: Any = None, docker_client: Any = None) -> None:
        super().__init__(session_name, client=client, docker_client=docker_client)
        self._cluster = Cluster(client)

    def _run_opts(self) -> runopts:
        opts = runopts()
        opts.add("queue", str, "Volcano queue to schedule the job in", required=True)
        opts.add("namespace", str, "namespace of the job (default: the kubeconfig context's)")
        opts.add("service_account", str, "service account of the pods")
        opts.add("priority_class", str, "PriorityClass of the job")
        opts.add("secrets", _LIST, "Secrets whose keys become environment variables of the training processes")
        opts.add("tolerations", _LIST, "taints the pods bear: KEY, KEY:EFFECT; KEY=VALUE:EFFECT in .torchxconfig")
        opts.add("node_selector", _PAIRS, "labels that a node must have: KEY:VALUE")
        opts.add("labels", _PAIRS, "further labels of the job and its pods: KEY:VALUE")
        opts.add("annotations", _PAIRS, "further annotations of the pods: KEY:VALUE")
        opts.add("spread", _LIST, "labels of nodes over which the working pods are spread: kubernetes.io/hostname, ...")
        opts.add("affinity", str, "YAML file with the affinity of the working pods")
        opts.add("gpu_resource", str, "name under which nodes offer GPUs (default: nvidia.com/gpu)")
        opts.add("devices", _PAIRS, "further devices of a working pod, as rdma/ib:1")
        opts.add("capabilities", _LIST, "Linux capabilities of the working pods: IPC_LOCK")
        opts.add("runtime_class", str, "RuntimeClass of the pods (default: the cluster's)")
        opts.add("host_network", str, "true or false: whether pods use the network of their node (default: false)")
        opts.add("open_metrics", str, "true or false: whether other pods reach the job's pods (default: false)")
        opts.add("image_pull_secrets", _LIST, "Secrets with the image registry's credentials")
        opts.add("image_pull_policy", str, "Always, IfNotPresent or Never (default: the cluster's)")
        opts.add("run_as_user", int, "numeric user and group of the pods (default: 10001)")
        opts.add("ttl", int, "seconds until a finished job is removed (default: never)")
        opts.add("scratch", int, "local disk of a pod in MB (default: the whole disk of the node)")
        return opts

    def _api_client(self) -> Any:
        return self._cluster.client()

    # Submission

    def examine(self, app: AppDef, cfg: Mapping[str, Any], online: bool, submitter: Submitter = TORCHX) -> Findings:
        """Find the mistakes of a submission; ask the cluster only if `online` is set; see `checks.ask`."""
        found = Findings(validate(app, PodOptions.of_site(cfg), submitter))
        if isinstance(text := switch(cfg.get("open_metrics")), str):
            found.mistakes.append(not_a_switch("open_metrics", text))
        if not cfg.get("queue"):
            found.mistakes.append(
                "No queue is named. Give -cfg queue=NAME, HARDVIEWS_QUEUE in the environment, or queue = NAME under "
                "[kubernetes] in .torchxconfig."
            )
        elif online:
            try:
                job = self._submit_dryrun(app, cfg).request.resource
                found.add(
                    ask(self._cluster, job, self._namespace(cfg), rehearse=not found.mistakes, submitter=submitter)
                )
            except UserError as error:
                found.mistakes.append(str(error))
        found.mistakes[:] = dict.fromkeys(found.mistakes)
        return found

    def cache_disk(self, app: AppDef, cfg: Mapping[str, Any]) -> int | None:
        """Return the local disk of a job's working pods in MB, if it is limited and the cache of shards lies there."""
        role = app.roles[-1]
        return cache_disk(role, PodOptions.of_role(role).over(PodOptions.of_site(cfg)))

    def store_of(self, app: AppDef, cfg: Mapping[str, Any]) -> StoreOfJob:
        """Return the settings of the object store in the job and its Secrets; ask the cluster, if there is one."""
        if not cfg.get("queue"):
            return StoreOfJob({}, complete=False)
        try:
            return store_of(self._cluster, self._submit_dryrun(app, cfg).request.resource, self._namespace(cfg))
        except UserError:
            return StoreOfJob({}, complete=False)

    def _submit_dryrun(self, app: AppDef, cfg: Mapping[str, Any]) -> AppDryRunInfo[KubernetesJob]:
        info = super()._submit_dryrun(app, cfg)
        plain: Any = sanitize_for_serialization(info.request.resource)
        info.request.resource = refine(plain, app, PodOptions.of_site(cfg), switch(cfg.get("open_metrics")) is True)
        return info

    def schedule(self, dryrun_info: AppDryRunInfo[KubernetesJob]) -> str:
        namespace = self._namespace(dryrun_info._cfg)
        self.push_images(dryrun_info.request.images_to_push)
        job = with_names(self._cluster, namespace, dryrun_info.request.resource)
        try:
            made = self._cluster.create(f"{JOBS}/namespaces/{namespace}/jobs", job)
        except ApiRefused as error:
            raise UserError(
                f"The cluster does not accept the job in the namespace {namespace}: {error.message}"
            ) from error
        return f"{namespace}:{made['metadata']['name']}"

    def _namespace(self, cfg: Mapping[str, Any] | None = None) -> str:
        return self._named(cfg) or "default"

    def _named(self, cfg: Mapping[str, Any] | None = None) -> str | None:
        """Return the namespace that the run options, the site's settings or the kubeconfig name."""
        if cfg is None:
            cfg = dict(cluster_options())
            apply("kubernetes", cfg)
        return cfg.get("namespace") or self._cluster.namespace()

    # Jobs that are there

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        namespace, name = self._place(app_id)
        try:
            job = self._cluster.find(f"{JOBS}/namespaces/{namespace}/jobs/{name}")
            if job is None:
                return None
            pods = self._cluster.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"{_JOB_LABEL}={name}")
            seen = around(self._cluster, namespace, job, pods["items"])
            return response(f"{namespace}:{name}", job, pods["items"], seen)
        except ApiRefused as error:
            raise _forbidden(f"the job {name}", namespace, error) from error

    def list(self) -> List[ListAppResponse]:  # noqa: UP006
        """List the jobs of the site's or the kubeconfig's namespace; without one, all jobs that we may see."""
        namespace = self._named()
        try:
            jobs = self._cluster.get(f"{JOBS}/namespaces/{namespace}/jobs" if namespace else f"{JOBS}/jobs")["items"]
        except ApiRefused as error:
            if namespace is not None or error.status != 403:
                raise _forbidden("jobs", namespace or "default", error) from error
            jobs = self._cluster.get(f"{JOBS}/namespaces/default/jobs")["items"]
        return [
            ListAppResponse(
                app_id=f"{job['metadata']['namespace']}:{job['metadata']['name']}",
                state=STATES.get(phase(job), AppState.UNKNOWN),
            )
            for job in sorted(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))
        ]

    def _cancel_existing(self, app_id: str) -> None:
        """Abort the job: its pods get their grace period to save, and its record stays."""
        namespace, name = self._place(app_id)
        try:
            job = self._cluster.get(f"{JOBS}/namespaces/{namespace}/jobs/{name}")
            owner = {
                "apiVersion": job["apiVersion"],
                "kind": job["kind"],
                "name": name,
                "uid": job["metadata"]["uid"],
                "controller": True,
            }
            command = {
                "apiVersion": "bus.volcano.sh/v1alpha1",
                "kind": "Command",
                "metadata": {"generateName": f"{name}-abort-", "namespace": namespace, "ownerReferences": [owner]},
                "action": "AbortJob",
                "target": owner,
            }
            self._cluster.create(f"{_COMMANDS}/namespaces/{namespace}/commands", command)
        except ApiRefused as error:
            if error.status not in (403, 404):
                raise _forbidden(f"the job {name}", namespace, error) from error
            self.delete(app_id)  # we may not send commands to the cluster; pods have their grace period here too

    def delete(self, app_id: str) -> None:
        """Remove a job with its pods and all its objects in Volcano."""
        namespace, name = self._place(app_id)
        try:
            self._cluster.delete(f"{JOBS}/namespaces/{namespace}/jobs/{name}", propagationPolicy="Background")
        except ApiRefused as error:
            raise _forbidden(f"the job {name}", namespace, error) from error

    def log_iter(
        self,
        app_id: str,
        role_name: str,
        k: int = 0,
        regex: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        should_tail: bool = False,
        streams: Stream | None = None,
    ) -> Iterable[str]:
        if streams not in (None, Stream.COMBINED):
            raise UserError("Kubernetes keeps one log of both streams. Leave out --streams.")
        if until is not None:
            raise UserError("Kubernetes has no logs up to a time. Leave out the end.")
        namespace, name = self._place(app_id)
        job = self._cluster.find(f"{JOBS}/namespaces/{namespace}/jobs/{name}")
        pod = _pod_name(job, role_name, k) if job is not None else None
        if pod is None:
            raise UserError(f"The job {name} in the namespace {namespace} has no replica {role_name}/{k}.")
        found: Iterator[str] = lines(
            self._cluster, namespace, pod, should_tail, _Ended(self._cluster, namespace, name), since
        )
        return filter_regex(regex, found) if regex else found

    def _place(self, app_id: str) -> tuple[str, str]:
        namespace, _, name = app_id.rpartition(":")
        return namespace or self._namespace(), name


class _Ended:
    """A check whether a job is over, made at most every few seconds."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._path = f"{JOBS}/namespaces/{namespace}/jobs/{name}"
        self._asked = -_LOOK_AGAIN
        self._answer = False

    def __call__(self) -> bool:
        if not self._answer and time.monotonic() - self._asked >= _LOOK_AGAIN:
            job = self._cluster.find(self._path)
            self._asked = time.monotonic()
            self._answer = job is None or phase(job) in OVER
        return self._answer


def _pod_name(job: Mapping[str, Any], role: str, replica: int) -> str | None:
    """Return the name of a replica's pod: TorchX's roles have one task a replica, elastic roles one task in all."""
    name = job["metadata"]["name"]
    for task in job["spec"]["tasks"]:
        if task["name"] == f"{role}-{replica}":
            return f"{name}-{task['name']}-0"
        if task["name"] == role and replica < int(task["replicas"]):
            return f"{name}-{role}-{replica}"
    return None


def _forbidden(what: str, namespace: str, error: ApiRefused) -> UserError:
    return UserError(f"The cluster did not show or change {what} in the namespace {namespace}: {error.message}")


def create_scheduler(
    session_name: str, client: Any = None, docker_client: Any = None, **_: Any
) -> ElasticKubernetesScheduler:
    """Return the scheduler, for the entry point `torchx.schedulers`."""
    return ElasticKubernetesScheduler(session_name, client=client, docker_client=docker_client)
