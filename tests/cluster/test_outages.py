"""A training goes on while its servers are restarted, a node is drained, and all its pods are lost at once."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.conftest import ROOT, Site
from tests.cluster.record import Output, check_reports, pretraining_runs

EPOCHS = ("--training.epochs", "1", "--training.checkpoint-steps", "2")


@pytest.fixture(scope="module")
def room(site: Site) -> None:
    """The queue has room for all, and the store has data."""
    site.guide.run("kubectl patch queue")
    site.submit("--wait", "jobs/pack.py", "--source", "photographs", "--cpu", "1", "--data", "s3://hardviews/outages")


class Training:
    """A small pretraining of two trainers."""

    def __init__(self, site: Site, name: str, cpu: int = 1) -> None:
        self.site, self.cluster, self.url = site, site.cluster, f"s3://hardviews/{name}"
        self.output = Output(site.files(), self.url)
        words = ["--recipe", "smoke", "-j", "1:2", "--cpu", str(cpu), "--memMB", "2500"]
        words += ["--output", self.url, "--data", "s3://hardviews/outages"]
        words += ["--", *EPOCHS, "--training.batch", "96", "--experiment", name]
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
        check_reports(client, run, self.output.rows(), self.output.lives())
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


@dataclass(frozen=True)
class Room:
    """The node of a server, and one that is free: of trainers with so many cores, each has room for one only."""

    home: str
    spare: str
    cpu: int


@pytest.fixture
def nodes(site: Site, room: None) -> Iterator[Room]:
    """All nodes but the home are cordoned: the servers keep their files in their pods, so theirs stay."""
    cluster = site.cluster
    # TorchX labels the pods of its jobs in the same way.
    selector = "app.kubernetes.io/name in (mlflow,store)"
    servers = {pod["spec"]["nodeName"] for pod in cluster.get("pods", "--selector", selector)}
    usable = {n["metadata"]["name"]: n for n in cluster.get("nodes") if not n["spec"].get("taints")}
    if not usable.keys() - servers:
        pytest.skip("every node has a server on it")
    home, spare = min(servers), min(usable.keys() - servers)
    cores = {name: cores_of(usable[name]) for name in (home, spare)}
    others = usable.keys() - {home}
    for name in others:
        cluster.kubectl("cordon", name)
    try:
        # Two trainers and the coordinator ask for more than a node has.
        yield Room(home, spare, max(1, int(min(cores.values())) // 2))
    finally:
        for name in others:
            cluster.kubectl("uncordon", name)


def cores_of(node: dict[str, Any]) -> float:
    """Return the cores that pods may have: `2` or `1930m`."""
    text = node["status"]["allocatable"]["cpu"]
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def on_both(site: Site, name: str, nodes: Room) -> Training:
    """A training whose coordinator and first trainer run at home, and whose second trainer is on the spare node."""
    training = Training(site, name, nodes.cpu)
    site.cluster.kubectl("uncordon", nodes.spare)

    def there() -> bool:
        pods = site.cluster.pods(training.job, "trainer")
        return any(pod["spec"].get("nodeName") == nodes.spare and pod["status"]["phase"] == "Running" for pod in pods)

    wait_for(f"a trainer on {nodes.spare}", there, 120)
    # It has joined: two train together.
    wait_for("two that train", lambda: training.output.lives()[-1]["world"] == 2, 120)
    training.until(training.output.step() + 1)
    return training


def test_a_node_is_drained(site: Site, nodes: Room) -> None:
    cluster, spare = site.cluster, nodes.spare
    training = on_both(site, "drained", nodes)
    cluster.kubectl("cordon", spare)
    # Of our namespace alone: the cluster may be others' too.
    for pod in cluster.pods(training.job, "trainer"):
        if pod["spec"].get("nodeName") == spare:
            cluster.evict(pod["metadata"]["name"])
    training.until(training.output.step() + 2)
    assert all(pod["spec"].get("nodeName") != spare for pod in cluster.pods(training.job, "trainer"))
    training.finish()


def test_a_node_is_switched_off(site: Site, nodes: Room) -> None:
    """NODE_OFF and NODE_ON are shell commands that do it to the node $NODE; on kind: docker stop, docker start."""
    if not {"NODE_OFF", "NODE_ON"} <= os.environ.keys():
        pytest.skip("NODE_OFF and NODE_ON do not say how a node is switched off and on")
    training, spare = on_both(site, "off", nodes), nodes.spare
    variables = os.environ | {"NODE": spare}
    lives = len(training.output.lives())
    try:
        subprocess.run(os.environ["NODE_OFF"], shell=True, check=True, env=variables, timeout=120)
        # The other trainer gets no notice: its pod stays as it is, and it goes on alone.
        training.until(training.output.step() + 3, seconds=180)
        assert training.output.lives()[lives]["world"] == 1
    finally:
        subprocess.run(os.environ["NODE_ON"], shell=True, check=True, env=variables, timeout=120)
    training.finish()


def test_all_its_pods_are_lost_at_once(site: Site, room: None) -> None:
    training = Training(site, "lost")
    for pod in training.cluster.pods(training.job):
        training.cluster.kill(pod["metadata"]["name"])
    wait_for("a trainer", lambda: training.cluster.running(training.job, "trainer"), 120)
    training.finish()
    assert len(training.output.lives()) >= 2
