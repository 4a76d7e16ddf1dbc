"""Fixtures: a namespace of the cluster, an S3 and an MLflow server in it, and the environment of our own commands.

`make test-cluster` runs them on whatever cluster KUBECONFIG names. Images are named by HARDVIEWS_IMAGE and
OBJECT_STORE_IMAGE. Everything is removed afterwards.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from tests.cluster import services
from tests.cluster.cluster import Cluster, wait_for

ROOT = Path(__file__).parents[2]
BUCKET = "hardviews"


def _unusable() -> str | None:
    """Why there is no cluster to test on; None where there is one."""
    for variable, what in (("KUBECONFIG", "cluster"), ("HARDVIEWS_IMAGE", "image"), ("OBJECT_STORE_IMAGE", "image")):
        if not os.environ.get(variable):
            return f"{variable} names no {what}"
    if shutil.which("kubectl") is None:
        return "there is no kubectl"
    asked = subprocess.run(
        ["kubectl", "get", "crd", "jobs.batch.volcano.sh", "--request-timeout=10s"], capture_output=True, text=True
    )
    return f"the cluster does not answer, or has no Volcano: {asked.stderr.strip()}" if asked.returncode else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.path.name not in ("test_guide.py",):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(1200))


@dataclass(frozen=True)
class Site:
    """A namespace with servers, and how this machine and the pods reach them."""

    cluster: Cluster
    queue: str
    image: str
    access_key: str
    secret_key: str
    s3: str  # address for this machine
    mlflow: str

    @property
    def environment(self) -> dict[str, str]:
        """For commands on this machine that read and write the store themselves."""
        return {
            "AWS_ENDPOINT_URL": self.s3,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "MLFLOW_TRACKING_URI": self.mlflow,
        }

    def files(self) -> fsspec.AbstractFileSystem:
        """The store's files, by the port that leads to it."""
        return fsspec.filesystem(
            "s3",
            key=self.access_key,
            secret=self.secret_key,
            endpoint_url=self.s3,
            client_kwargs={"region_name": "us-east-1"},
            use_listings_cache=False,
            skip_instance_cache=True,
        )


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A namespace that admits restricted pods only; it and all in it are gone afterwards."""
    if reason := _unusable():
        pytest.skip(reason)
    space = Cluster(f"hardviews-test-{secrets.token_hex(3)}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "hardviews.test": "true"}
    space.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space.namespace, "labels": labels}})
    try:
        yield space
    finally:
        space.kubectl("delete", "namespace", space.namespace, "--wait=false")


@pytest.fixture(scope="session")
def queue(cluster: Cluster) -> Iterator[str]:
    """A Volcano queue of our own, so that a test may say how much room there is."""
    name = cluster.namespace
    cluster.apply(
        {
            "apiVersion": "scheduling.volcano.sh/v1beta1",
            "kind": "Queue",
            "metadata": {"name": name},
            "spec": {"weight": 1},
        }
    )
    try:
        yield name
    finally:
        cluster.kubectl("delete", "jobs.batch.volcano.sh", "--all", "--wait=true", check=False)
        # A queue goes only when it is empty.
        wait_for("the queue's end", lambda: _queue_gone(cluster, name), 60, every=2)


def _queue_gone(cluster: Cluster, name: str) -> bool:
    cluster.kubectl("delete", "queues.scheduling.volcano.sh", name, "--ignore-not-found", "--wait=false", check=False)
    return cluster.get("queues.scheduling.volcano.sh", name) is None


@pytest.fixture(scope="session")
def site(cluster: Cluster, queue: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The servers, and a Secret `store` with what a job needs to reach the store."""
    folder = tmp_path_factory.mktemp("forwards")
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    credentials = {
        "AWS_ENDPOINT_URL": f"http://store:{services.S3_PORT}",
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": credentials},
        *services.object_store(os.environ["OBJECT_STORE_IMAGE"], access_key, secret_key),
        *services.mlflow(os.environ["HARDVIEWS_IMAGE"]),
    )
    for name in ("store", "mlflow"):
        cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s", timeout=310)
    with (
        cluster.forwarded("store", services.S3_PORT, folder) as s3,
        cluster.forwarded("mlflow", services.MLFLOW_PORT, folder) as mlflow,
    ):
        made = Site(
            cluster,
            queue,
            os.environ["HARDVIEWS_IMAGE"],
            access_key,
            secret_key,
            f"http://127.0.0.1:{s3}",
            f"http://127.0.0.1:{mlflow}",
        )
        wait_for("a bucket", lambda: _made_bucket(made), 60)
        yield made


def _made_bucket(site: Site) -> bool:
    try:
        site.files().mkdir(BUCKET)
    except OSError:  # the parts of the server find each other some time after it listens
        return False
    return True
