"""The checks of `helm test`, from a pod beside the jobs: names, S3, MLflow, queue, GPUs, and the jobs' objects.

`python -m hardviews.launch.chart.release_check --data s3://B/D --output s3://B/R --tracking http://M:5000 --queue Q`

It prints a line for each check. Exit code 1 means that a check failed. A check that cannot be made is left out, and the
line says why.
"""

import argparse
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from hardviews import streams
from hardviews.errors import UserError
from hardviews.launch.kubernetes.checks import ask
from hardviews.launch.kubernetes.cluster import JOBS, QUEUES, ApiRefused, Cluster
from hardviews.launch.kubernetes.observed import phase
from hardviews.storage.sight import remote
from hardviews.storage.store import open_store
from hardviews.tracking.scrub import scrub

_GPU = "nvidia.com/gpu"
_EXPERIMENT = "hardviews helm test"
_PAUSE = 1.0  # seconds between two look-ups of a name: the name of a new Service takes a moment
_OVER = ("Completed", "Failed", "Aborted", "Terminated")  # phases of a job that has ended
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class Left(Exception):
    """A check cannot be made; the message says why."""


def check_names(addresses: Sequence[str], patience: float) -> str:
    """Resolve the hosts of addresses.

    Raises:
        UserError: the cluster's DNS does not resolve a host.
    """
    hosts = sorted({host for address in addresses if (host := urlsplit(address).hostname)})
    if not hosts:
        raise Left("no server is named")
    deadline = time.monotonic() + patience
    for host in hosts:
        while True:
            try:
                socket.getaddrinfo(host, None)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"The name {host} does not resolve in this cluster ({error.strerror or error}). See that it is "
                        "written as pods write it, SERVICE or SERVICE.NAMESPACE, and that a NetworkPolicy lets DNS "
                        "through."
                    ) from error
            time.sleep(_PAUSE)
    return f"{', '.join(hosts)} resolve{'s' if len(hosts) == 1 else ''}"


def check_store(url: str, patience: float) -> str:
    """Write, read and remove a small file beside the run.

    Raises:
        UserError: the store refuses one of them.
    """
    if not url:
        raise Left("no output is named")
    if not remote(url):
        raise Left(f"{url} is on a volume, which this pod does not mount")
    store = open_store(url, patience)
    name, data = f".helm-test-{secrets.token_hex(8)}", b"hardviews"
    store.write(name, data)
    try:
        if store.read(name) != data:
            raise UserError(f"A file in {url} changed between writing and reading. Ask the owner of the store.")
    finally:
        store.remove(name)
    return f"{url} can be written and read"


def check_data(url: str, patience: float) -> str:
    """Look for a file that may be missing: only the right to read is checked.

    Raises:
        UserError: the store refuses it.
    """
    if not url:
        raise Left("no data are named")
    if not remote(url):
        raise Left(f"{url} is on a volume, which this pod does not mount")
    there = open_store(url, patience).inside("train").size("index.json") is not None
    return f"{url} can be read" + ("" if there else "; nothing is packed there yet")


def check_tracking(uri: str) -> str:
    """Write a record to the MLflow server, and delete it.

    Raises:
        UserError: the server refuses it.
    """
    from hardviews.tracking.server import Server

    if not uri:
        raise Left("no MLflow server is named")
    with tempfile.TemporaryDirectory() as folder:
        try:
            client = Server.connect(uri, Path(folder)).client
            found = client.get_experiment_by_name(_EXPERIMENT)
            experiment = found.experiment_id if found is not None else client.create_experiment(_EXPERIMENT)
            run = client.create_run(experiment, run_name="helm test").info.run_id
            client.log_metric(run, "written", 1.0)
            client.delete_run(run)
        except UserError:
            raise
        except Exception as error:  # error of MLflow, its HTTP library or its proxy
            words = scrub(" ".join(str(error).split()))[:300]
            raise UserError(
                f"The MLflow server at {scrub(uri)} did not take a record: {words}. See that the address is right, "
                "and that MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are in a Secret if it wants them."
            ) from error
    return f"{scrub(uri)} takes records"


def check_queue(cluster: Cluster, queue: str) -> str:
    """Look for the queue.

    Raises:
        UserError: the queue is missing or closed.
    """
    if not queue:
        raise Left("this pod has no right to read queues (rbac.create is false)")
    try:
        found = cluster.find(f"{QUEUES}/{queue}")
    except ApiRefused as error:
        if error.status == 403:
            raise Left(f"this pod may not read queues: {error.message}") from error
        raise UserError(f"The queue {queue} cannot be read: {error.message}") from error
    if found is None:
        raise UserError(f"The cluster has no queue {queue}, or no Volcano. Name another one by queue, or make it.")
    state = found.get("status", {}).get("state") or "Open"
    if state != "Open":
        raise UserError(f"The queue {queue} takes no jobs: it is {state}. Have it opened, or name another one.")
    return f"the queue {queue} is open"


def check_gpus(cluster: Cluster, gpus: int, resource: str = _GPU) -> str:
    """Look for a node with as many GPUs as one pod requests.

    Raises:
        UserError: no node has so many.
    """
    if gpus <= 0:
        raise Left("no job asks for GPUs")
    try:
        nodes = cluster.get("/api/v1/nodes").get("items", [])
    except ApiRefused as error:
        if error.status == 403:
            raise Left(f"this pod may not read nodes: {error.message}") from error
        raise UserError(f"The nodes cannot be read: {error.message}") from error
    most = max((int(node.get("status", {}).get("allocatable", {}).get(resource, 0)) for node in nodes), default=0)
    if most < gpus:
        raise UserError(
            f"A pod asks for {gpus} GPUs ({resource}), and no node has more than {most}. Ask for fewer, or see that "
            "the device plugin runs."
        )
    return f"a node has {most} GPUs"


def check_jobs(cluster: Cluster, namespace: str, release: str) -> str:
    """Look for the objects of the release's jobs, as before a submission: Secrets, claims, quotas, the queue's limit.

    Raises:
        UserError: a job lacks something, or can never be placed.
    """
    if not namespace:
        raise Left("this pod has no right to read jobs (rbac.create is false)")
    try:
        own = f"app.kubernetes.io/instance={release}"
        found = cluster.get(f"{JOBS}/namespaces/{namespace}/jobs", labelSelector=own)
    except ApiRefused as error:
        if error.status == 403:
            raise Left(f"this pod may not read jobs: {error.message}") from error
        raise UserError(f"The jobs cannot be read: {error.message}") from error
    jobs = {job["metadata"]["labels"]["app.kubernetes.io/component"]: job for job in found.get("items", [])}
    alive = {name: job for name, job in jobs.items() if phase(job) not in _OVER}
    if not alive:
        raise Left("no job waits or runs" if jobs else "the release has no job")
    mistakes = {name: ask(cluster, job, namespace, rehearse=False).mistakes for name, job in alive.items()}
    texts: dict[str, list[str]] = {}
    for name, sentences in mistakes.items():
        for text in sentences:
            texts.setdefault(text, []).append(name)
    if texts:
        raise UserError(" ".join(f"{', '.join(names)}: {text}" for text, names in texts.items()))
    return f"{', '.join(alive)} lack{'s' if len(alive) == 1 else ''} nothing that this pod may see"


def main(words: Sequence[str] | None = None, cluster: Cluster | None = None) -> int:
    """Make all checks; return 1 if one failed."""
    streams.prepare()
    parser = argparse.ArgumentParser(description="Check what the jobs of a chart need.")
    parser.add_argument("--data", default="", metavar="URL", help="packed dataset")
    parser.add_argument("--output", default="", metavar="URL", help="folder of the run")
    parser.add_argument("--tracking", default="", metavar="URL", help="MLflow server")
    parser.add_argument("--queue", default="", metavar="NAME", help="Volcano queue")
    parser.add_argument("--namespace", default="", metavar="NAME", help="of the release")
    parser.add_argument("--release", default="", metavar="NAME", help="whose jobs are looked at")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs that one pod asks for")
    parser.add_argument("--gpu-resource", default=_GPU, metavar="NAME", help="by which nodes offer GPUs")
    parser.add_argument("--patience", type=float, default=30.0, metavar="SECONDS", help="for each server")
    options = parser.parse_args(words)
    client = cluster or Cluster()
    addresses = [options.tracking, *(os.environ.get(name, "") for name in _ENDPOINTS)]
    checks: list[tuple[str, Callable[[], str]]] = [
        ("names", lambda: check_names(addresses, options.patience)),
        ("data", lambda: check_data(options.data, options.patience)),
        ("output", lambda: check_store(options.output, options.patience)),
        ("tracking", lambda: check_tracking(options.tracking)),
        ("queue", lambda: check_queue(client, options.queue)),
        ("jobs", lambda: check_jobs(client, options.namespace, options.release)),
        ("gpus", lambda: check_gpus(client, options.gpus, options.gpu_resource)),
    ]
    failed = 0
    for name, check in checks:
        try:
            line = f"passed   {check()}"
        except Left as reason:
            line = f"left out {reason}"
        except UserError as error:
            failed += 1
            line = f"FAILED   {error}"
        print(f"{name:9}{line}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
