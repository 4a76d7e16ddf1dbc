"""A training goes on while its servers are restarted, a node is drained, and all its pods are lost at once."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.conftest import ROOT, Site
from tests.cluster.record import Output, pretraining_runs, series

EPOCHS = ("--training.epochs", "1", "--training.checkpoint-steps", "2")


@pytest.fixture(scope="module")
def room(site: Site) -> None:
    """The queue has room for all, and the store has data."""
    site.guide.run("kubectl patch queue")
    site.submit("--wait", "jobs/pack.py", "--source", "digits", "--cpu", "1", "--data", "s3://hardviews/outages")


class Training:
    """A small pretraining of two trainers."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.cluster, self.url = site, site.cluster, f"s3://hardviews/{name}"
        self.output = Output(site.files(), self.url)
        words = ["--recipe", "smoke", "-j", "1:2", "--cpu", "1", "--memMB", "2500", "--output", self.url]
        words += ["--data", "s3://hardviews/outages", "--", *EPOCHS, "--training.batch", "96", "--experiment", name]
        self.job = site.submit("jobs/pretrain.py", *words).rpartition(":")[2]
        wait_for("a trainer", lambda: self.cluster.running(self.job, "trainer"), 180)
        self.until(2)

    def until(self, step: int, seconds: float = 240) -> None:
        def far_enough() -> bool:
            phase = self.cluster.phase(self.job)
            assert phase not in ("Failed", "Terminated", "Aborted"), self.cluster.logs(self.job)
            return phase == "Completed" or self.output.step() >= step

        wait_for(f"step {step} of {self.job}", far_enough, seconds, every=1)

    def finish(self) -> None:
        """Wait for the end; every sample was trained on once, and every step was logged once."""
        wait_for("the end", lambda: self.cluster.phase(self.job) in ("Completed", "Failed", "Terminated"), 400, every=1)
        assert self.cluster.phase(self.job) == "Completed", self.cluster.logs(self.job)
        audited = subprocess.run(
            ["hardviews", "audit", self.url, "--data", "s3://hardviews/outages"],
            cwd=ROOT,
            env=self.site.guide.variables | self.site.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert audited.returncode == 0, audited.stdout + audited.stderr
        assert "0 samples lost, 0 repeated" in audited.stdout
        client = self.site.tracking()
        name = self.url.rpartition("/")[2]
        (run,) = [run for run in pretraining_runs(client) if client.get_experiment(run.info.experiment_id).name == name]
        assert [value for _, value in series(client, run, "loss")] == [row["loss"] for row in self.output.rows()]
        assert run.info.status == "FINISHED"


def restart(cluster: Cluster, deployment: str, *program: str) -> None:
    """End a server's only process; the kubelet starts it again in place."""

    def restarts() -> int:
        (pod,) = cluster.get("pods", "--selector", f"app.kubernetes.io/name={deployment}")
        return int(pod["status"]["containerStatuses"][0]["restartCount"])

    before = restarts()
    cluster.kubectl("exec", f"deployment/{deployment}", "--", *program, check=False)
    wait_for(f"a restart of {deployment}", lambda: restarts() > before, 60)


def test_its_servers_are_restarted(site: Site, room: None) -> None:
    training = Training(site, "servers")
    restart(site.cluster, "mlflow", "python", "-c", "import os; os.kill(1, 15)")
    training.until(training.output.step() + 2)
    restart(site.cluster, "store", "sh", "-c", "kill 1")
    training.until(training.output.step() + 2)
    training.finish()


def test_a_node_is_drained(site: Site, room: None) -> None:
    cluster = site.cluster
    training = Training(site, "drained")
    servers = {pod["spec"]["nodeName"] for pod in cluster.get("pods", "--selector", "app.kubernetes.io/name")}
    nodes = {p["spec"]["nodeName"] for p in cluster.pods(training.job, "trainer") if p["spec"].get("nodeName")}
    # The servers keep their files in their pods: their node stays.
    if not nodes - servers:
        pytest.skip("every node that trains has a server on it")
    (node, *_) = sorted(nodes - servers)
    try:
        cluster.kubectl("cordon", node)
        # Of our namespace alone: the cluster may be others' too.
        for pod in cluster.pods(training.job, "trainer"):
            if pod["spec"].get("nodeName") == node:
                cluster.evict(pod["metadata"]["name"])
        training.until(training.output.step() + 2)
        assert all(pod["spec"].get("nodeName") != node for pod in cluster.pods(training.job, "trainer"))
    finally:
        cluster.kubectl("uncordon", node)
    training.finish()


def test_all_its_pods_are_lost_at_once(site: Site, room: None) -> None:
    training = Training(site, "lost")
    for pod in training.cluster.pods(training.job):
        training.cluster.kill(pod["metadata"]["name"])
    wait_for("a trainer", lambda: training.cluster.running(training.job, "trainer"), 120)
    training.finish()
    assert len(training.output.lives()) >= 2
