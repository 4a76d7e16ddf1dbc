"""Fixtures: a namespace of the cluster, an S3 and an MLflow server in it, and the environment of our own commands.

`make test-cluster` runs them on whatever cluster KUBECONFIG names. Images are named by HARDVIEWS_IMAGE and
OBJECT_STORE_IMAGE. Everything is removed afterwards.
"""

import base64
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
from mlflow.tracking import MlflowClient

from tests.cluster.cluster import Cluster, unusable, wait_for
from tests.cluster.guide import Guide, torchxconfig

ROOT = Path(__file__).parents[2]
S3_PORT, MLFLOW_PORT = 8333, 5000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.path.name not in ("test_guide.py",):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(2400))


@dataclass(frozen=True)
class Site:
    """A namespace with servers, and how this machine reaches them."""

    cluster: Cluster
    queue: str
    image: str
    environment: dict[str, str]  # for commands on this machine that read and write the store themselves
    variables: dict[str, str]  # for commands that submit jobs
    guide: Guide

    def files(self) -> fsspec.AbstractFileSystem:
        """The store's files, by the port that leads to it."""
        return fsspec.filesystem(
            "s3",
            key=self.environment["AWS_ACCESS_KEY_ID"],
            secret=self.environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            client_kwargs={"region_name": "us-east-1"},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def tracking(self) -> MlflowClient:
        return MlflowClient(self.environment["MLFLOW_TRACKING_URI"])

    def torchx(self, *words: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run torchx in the checkout, as the document does."""
        done = subprocess.run(
            ["torchx", *words], cwd=ROOT, env=self.guide.variables, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"torchx {' '.join(words)}: {done.stdout}{done.stderr}"
        return done

    def submit(self, *words: str) -> str:
        """Submit a job to the namespace; returns its handle."""
        return self.torchx("run", "-s", "kubernetes", *words).stdout.strip()


@pytest.fixture(scope="module")
def space() -> Iterator[Cluster]:
    """A namespace that admits restricted pods only, for releases of the chart; it is gone afterwards."""
    if reason := unusable():
        pytest.skip(reason)
    if shutil.which("helm") is None:
        pytest.skip("there is no helm")
    made = Cluster(f"hardviews-test-{secrets.token_hex(3)}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    try:
        made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace, "labels": labels}})
        made.pull(os.environ["HARDVIEWS_IMAGE"])
        yield made
    finally:
        for found in json.loads(_helm(made, "list", "--output", "json") or "[]"):
            _helm(made, "uninstall", found["name"])
        made.kubectl("delete", "jobs.batch.volcano.sh", "--all", "--wait=true", check=False, timeout=150)
        made.kubectl("delete", "namespace", made.namespace, "--wait=true", "--timeout=400s", timeout=410, check=False)


def _helm(cluster: Cluster, *words: str) -> str:
    done = subprocess.run(
        ["helm", *words, "--namespace", cluster.namespace], capture_output=True, text=True, timeout=120
    )
    return done.stdout


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A namespace that admits restricted pods only, a queue, and the servers, as the document makes them.

    All of it is gone afterwards.
    """
    if reason := unusable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("site")
    name = f"hardviews-test-{secrets.token_hex(3)}"
    cluster = Cluster(name)
    image = os.environ["HARDVIEWS_IMAGE"]
    # The document makes the namespace the context's: in a copy of the kubeconfig.
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(cluster.kubectl("config", "view", "--raw", "--flatten", "--minify"))
    (folder / "torchxconfig").write_text(torchxconfig(name, image))
    variables = {
        "KUBECONFIG": str(kubeconfig),
        "TORCHXCONFIG": str(folder / "torchxconfig"),
        "NAMESPACE": name,
        "QUEUE": name,
        "HARDVIEWS_IMAGE": image,
        "OBJECT_STORE_IMAGE": os.environ["OBJECT_STORE_IMAGE"],
        "HARDVIEWS_DATA": "s3://hardviews/photographs",
        "HARDVIEWS_OUTPUT": "s3://hardviews/first",
        "MLFLOW_TRACKING_URI": f"http://mlflow:{MLFLOW_PORT}",
    }
    guide = Guide(variables)
    try:
        guide.run("kubectl create namespace")
        guide.run("kubectl label namespace")
        cluster.pull(image)
        guide.run("kubectl config set-context")
        guide.run('sed "s|QUEUE|')
        guide.run("kubectl create secret generic store")
        guide.run('sed "s|OBJECT_STORE_IMAGE|')
        guide.run("kubectl rollout status deployment/store", timeout=310)
        guide.run("kubectl rollout status deployment/mlflow", timeout=310)
        with (
            cluster.forwarded("store", S3_PORT, folder) as s3,
            cluster.forwarded("mlflow", MLFLOW_PORT, folder) as mlflow,
        ):
            secret = cluster.get("secret", "store")["data"]
            environment = {key: base64.b64decode(value).decode() for key, value in secret.items()}
            environment |= {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}",
                "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
            }
            made = Site(cluster, name, image, environment, variables, guide)
            wait_for("a bucket", lambda: _bucket(made), 60, every=1)
            yield made
            cluster.kubectl("delete", "jobs.batch.volcano.sh", "--all", "--wait=true", timeout=150)
            guide.run("kubectl delete namespace", timeout=200)
            wait_for("an empty queue", lambda: _empty(cluster, name), 60)
            guide.run("kubectl delete queue")
    finally:
        cluster.kubectl("delete", "jobs.batch.volcano.sh", "--all", "--wait=true", check=False, timeout=150)
        cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false", check=False)
        # A queue goes only when it is empty.
        wait_for("the queue's end", lambda: _queue_gone(cluster, name), 60, every=2)


def _bucket(site: Site) -> bool:
    """Whether the store has the bucket: its parts find each other some time after it listens."""
    site.guide.run("kubectl exec deployment/store")
    return bool(site.files().exists("hardviews"))


def _empty(cluster: Cluster, name: str) -> bool:
    groups = cluster.get("podgroups.scheduling.volcano.sh", "--all-namespaces") or []
    return all(group["spec"].get("queue") != name for group in groups)


def _queue_gone(cluster: Cluster, name: str) -> bool:
    cluster.kubectl("delete", "queues.scheduling.volcano.sh", name, "--ignore-not-found", "--wait=false", check=False)
    return cluster.get("queues.scheduling.volcano.sh", name) is None
