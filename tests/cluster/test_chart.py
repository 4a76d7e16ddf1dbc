"""The Helm chart on a real cluster: the values for a laptop, from an empty namespace to evaluations, and upgrades."""

import pytest
from mlflow.tracking import MlflowClient

from tests.charts.rendering import last_packaged
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.record import children, pretraining_runs
from tests.cluster.release import Release, laptop

CHECKS = ("names", "data", "output", "tracking", "queue")
FINETUNING = (
    "finetune.enabled=true",
    "finetune.recipe=photos_finetune",
    "finetune.output=s3://hardviews/tuned",
    "finetune.args={--labels,20-per-class,--training.epochs=2,--training.batch=16}",
    "finetune.j=1:2x1",
    "finetune.cpu=1",
    "finetune.memMB=2500",
    "classify.enabled=true",
    "classify.cpu=1",
)


@pytest.fixture(scope="module")
def demo(space: Cluster) -> Release:
    return Release(space, "demo")


def test_a_laptop_packs_pretrains_and_evaluates(demo, tmp_path):
    """The commands of the chart's README, and their results."""
    demo.install(*laptop())
    assert demo.jobs().keys() == {"pack", "pretrain", "knn", "linear", "transfer"}
    demo.wait_for_servers()
    checked = demo.helm("test", demo.name, "--logs")
    for name in CHECKS:
        assert f"{name:9}passed" in checked
    for part in ("pack", "pretrain", "knn", "linear", "transfer"):
        demo.wait_for_job(part, 1500)
    with demo.cluster.forwarded("demo-hardviews-mlflow", 5000, tmp_path) as port:
        client = MlflowClient(f"http://127.0.0.1:{port}")
        (top,) = pretraining_runs(client)
        found = children(client, top)
        assert top.info.status == "FINISHED"
        assert {child.info.status for child in found} == {"FINISHED"}
        assert {child.data.tags["mlflow.runName"].split()[0] for child in found} == {"knn", "linear", "transfer"}


def test_the_same_values_do_nothing_and_others_start_what_they_concern(demo):
    before = demo.jobs()
    demo.upgrade(*laptop())
    assert demo.jobs() == before
    demo.upgrade(*laptop("knn.round=again"))
    after = wait_for("the end of the old job", lambda: len(demo.jobs()) == 5 and demo.jobs(), 60)
    assert {name for name in before if after[name] != before[name]} == {"knn"}
    demo.wait_for_job("knn", 600)
    demo.helm("rollback", demo.name, "1")
    back = demo.jobs()
    assert {name: each[0] for name, each in back.items()} == {name: each[0] for name, each in before.items()}
    assert {name for name in before if back[name] != before[name]} == {"knn"}


def test_a_fine_tuning_waits_for_its_encoder_and_its_scores_for_it(demo, tmp_path):
    """An elastic job of its own, from the encoder of the pretraining; both are installed at once."""
    demo.upgrade(*laptop(*FINETUNING))
    assert {"finetune", "classify"} <= demo.jobs().keys()
    for part in ("finetune", "classify"):
        demo.wait_for_job(part, 900)
    with demo.cluster.forwarded("demo-hardviews-mlflow", 5000, tmp_path) as port:
        client = MlflowClient(f"http://127.0.0.1:{port}")
        (top,) = pretraining_runs(client)
        (tuned,) = (run for run in children(client, top) if "hardviews.labels" in run.data.tags)
        assert tuned.info.status == "FINISHED"
        assert tuned.data.tags["hardviews.labels"] == "20-per-class"
        (scored,) = children(client, tuned)
        assert scored.info.status == "FINISHED"
        assert 0 < scored.data.metrics["classify/top1"] <= 100


def test_nothing_is_left(demo):
    demo.helm("uninstall", demo.name)
    ours = f"{demo.selector},app.kubernetes.io/component!=test"
    wait_for("the end of all pods", lambda: not demo.cluster.get("pods", "--selector", ours), 200)
    assert demo.jobs() == {}
    assert demo.cluster.get("secret", "demo-hardviews-store") is None


def test_an_upgrade_from_the_version_before_leaves_running_jobs_alone(space):
    """From the packaged chart to this chart: the waiting jobs and the servers are the same objects afterwards."""
    old = Release(space, "old", last_packaged())
    values = laptop("pack.enabled=false", "linear.enabled=false", "transfer.enabled=false")
    old.install(*values)
    old.wait_for_servers()
    before = old.jobs()
    servers = {made["metadata"]["name"]: made["metadata"]["uid"] for made in space.get("deployments")}
    pods = {made["metadata"]["uid"] for made in space.get("pods", "--selector", f"{old.selector}")}
    Release(space, "old").upgrade(*values)
    assert old.jobs() == before
    assert {made["metadata"]["name"]: made["metadata"]["uid"] for made in space.get("deployments")} == servers
    assert {made["metadata"]["uid"] for made in space.get("pods", "--selector", f"{old.selector}")} >= pods
    old.helm("uninstall", "old")
