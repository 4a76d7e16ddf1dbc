"""Jobs of the chart whose pods are lost, and releases that lack something: both are reported within two minutes."""

import re
from typing import Any

import fsspec
import pytest
from mlflow.tracking import MlflowClient

from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.record import Output, check_reports, pretraining_runs
from tests.cluster.release import STORE, Release, laptop

ALONE = ("knn.enabled=false", "linear.enabled=false", "transfer.enabled=false")
PATIENCE = 120  # seconds within which a reason is reported


@pytest.fixture(scope="module")
def demo(space: Cluster) -> Release:
    """Servers, packed images, and a pretraining."""
    made = Release(space, "demo")
    made.install(*laptop(*ALONE))
    made.wait_for_servers()
    return made


def files(port: int) -> fsspec.AbstractFileSystem:
    return fsspec.filesystem(
        "s3",
        key=STORE["AWS_ACCESS_KEY_ID"],
        secret=STORE["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=f"http://127.0.0.1:{port}",
        client_kwargs={"region_name": "us-east-1"},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def test_a_trainer_and_the_coordinator_are_lost_and_nothing_of_the_run_is(demo, tmp_path):
    cluster = demo.cluster
    job = demo.jobs()["pretrain"][0]
    with (
        cluster.forwarded("demo-hardviews-store", 8333, tmp_path) as store,
        cluster.forwarded("demo-hardviews-mlflow", 5000, tmp_path) as mlflow,
    ):
        output = Output(files(store), "s3://hardviews/first")
        wait_for("two trainers", lambda: len(cluster.running(job, "trainer")) == 2, 300)
        wait_for("a checkpoint", output.step, 240, every=1)

        lives = output.lives()
        cluster.kill(f"{job}-trainer-0")
        wait_for("another life", lambda: len(output.lives()) > len(lives), 120, every=1)
        wait_for("the trainer", lambda: len(cluster.running(job, "trainer")) == 2, 300)
        reached = output.step()
        cluster.kill(f"{job}-coordinator-0-0")
        wait_for("the coordinator", lambda: cluster.running(job, "coordinator"), 60)
        wait_for("more steps", lambda: output.step() > reached, 180, every=1)
        demo.wait_for_job("pretrain", 900)

        rows = output.rows()
        assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
        client = MlflowClient(f"http://127.0.0.1:{mlflow}")
        (run,) = pretraining_runs(client)
        assert run.info.status == "FINISHED"
        check_reports(client, run, rows, output.lives())


def release(demo: Release, name: str, *changes: str) -> Release:
    """A release of one evaluation that uses the servers of `demo`."""
    made = Release(demo.cluster, name)
    made.install(
        *laptop(
            *ALONE,
            "pack.enabled=false",
            "pretrain.enabled=false",
            "objectStore.enabled=false",
            "mlflow.enabled=false",
            "knn.enabled=true",
            "tracking=http://demo-hardviews-mlflow:5000",
            "pod.env.AWS_ENDPOINT_URL=http://demo-hardviews-store:8333",
            "pod.env.AWS_REGION=us-east-1",
            "secrets={demo-hardviews-store}",
            *changes,
        )
    )
    return made


def events(cluster: Cluster, about: str) -> str:
    found: list[dict[str, Any]] = cluster.get("events") or []
    return "\n".join(each["message"] for each in found if each["involvedObject"]["name"].startswith(about))


def helm_test(made: Release) -> str:
    """The output of `helm test` for a release that lacks something; it has to come in time."""
    words = ("test", made.name, "--logs", "--timeout", f"{PATIENCE}s")
    return made.helm(*words, check=False, timeout=PATIENCE + 10)


def test_a_bucket_that_is_not_there(demo):
    made = release(demo, "bucket", "output=s3://no-such-bucket/run")
    printed = helm_test(made)
    made.helm("uninstall", made.name)
    assert re.search(r"output   FAILED .*no-such-bucket", printed)
    assert "names    passed" in printed


def test_a_secret_that_is_not_there(demo):
    made = release(demo, "secret", "secrets={demo-hardviews-store,nowhere}")
    printed = helm_test(made)
    job = made.jobs()["knn"][0]
    wait_for("the event", lambda: 'secret "nowhere" not found' in events(demo.cluster, job), PATIENCE)
    made.helm("uninstall", made.name)
    assert re.search(r"jobs     FAILED   knn: .*no secret nowhere", printed)


def test_a_queue_without_room(demo):
    queue = f"{demo.cluster.namespace}-small"
    site = Release(demo.cluster, "site")
    limit = ("--set-string", "queueSpec.capability.cpu=10m")
    try:
        site.install("--set", "queueSpec.create=true", "--set", f"queue={queue}", *limit)
        made = release(demo, "full", f"queue={queue}")
        printed = helm_test(made)
        job = made.jobs()["knn"][0]
        wait_for("the event", lambda: "Unschedulable" in events(demo.cluster, job), PATIENCE)
        made.helm("uninstall", made.name)
    finally:
        site.helm("uninstall", site.name, check=False)
        demo.cluster.kubectl("delete", "queue", queue, "--ignore-not-found", "--timeout=60s", check=False, timeout=70)
    assert "queue    passed" in printed
    assert re.search(rf"jobs     FAILED   knn: The queue {queue} allows .* of cpu in all.* it never fits", printed)


def test_gpus_that_no_node_has(demo):
    made = release(demo, "gpus", "knn.gpu=8", "pod.gpuResource=example.org/gpu")
    printed = helm_test(made)
    made.helm("uninstall", made.name)
    assert re.search(r"gpus     FAILED   A pod asks for 8 GPUs \(example\.org/gpu\)", printed)
