"""From packing to the reviewed run by the document's commands, with every kind of pod lost on the way."""

import math
import re
import shlex
import time
from collections.abc import Callable
from statistics import mean
from typing import Any

import pytest

from tests.cluster.cluster import wait_for
from tests.cluster.guide import commands
from tests.cluster.record import Output, check_reports, children, parting, pretraining_runs, series
from tests.cluster.reference import undisturbed

TOLERANCE = 1e-3  # of the losses, relative; the measured ones are printed


def words_after(beginning: str) -> tuple[str, ...]:
    """The words after `--` in the document's command: arguments of hardviews."""
    (command,) = [c.removesuffix(")") for c in commands() if beginning in c]
    words = shlex.split(command)
    return tuple(words[words.index("--") + 1 :]) if "--" in words else ()


@pytest.fixture
def reference(tmp_path):
    """Trains the undisturbed run when it is called."""
    packing = ("--source", "photographs", *words_after("jobs/pack.py"))
    overrides = words_after("jobs/pretrain.py")
    return lambda: undisturbed(tmp_path, "smoke", overrides, packing)


class Diary:
    """Prints events with their times; pytest shows them with -s and if the test fails."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)


def test_nothing_is_lost_whatever_is_killed(reference, site):
    guide, cluster = site.guide, site.cluster
    output = Output(site.files(), guide.value("HARDVIEWS_OUTPUT"))
    say = Diary()

    guide.run("torchx run -s kubernetes --wait jobs/pack.py", timeout=600)
    index = output.dataset(guide.value("HARDVIEWS_DATA"))
    say(f"packed {index['n']} samples in {len(index['shards'])} shards")
    assert index["n"] >= 4000
    assert len(index["shards"]) >= 8

    guide.run("export JOB=")
    handle = guide.value("JOB")
    job = handle.rpartition(":")[2]

    def trained(more: int, seconds: float = 180) -> int:
        """Wait for checkpoints of so many more steps."""
        goal = output.step() + more

        def far_enough() -> bool:
            assert cluster.phase(job) != "Failed", cluster.logs(job)
            return output.step() >= goal

        wait_for(f"step {goal}", far_enough, seconds, every=1)
        return output.step()

    def new_life(before: list[dict[str, Any]], check: Callable[[dict[str, Any]], bool] = lambda life: True) -> None:
        """Wait until training has begun anew, and got on."""
        wait_for(
            "another life of the run",
            lambda: any(check(life) for life in output.lives()[len(before) :]),
            90,
        )

    try:
        wait_for("two trainers", lambda: len(cluster.running(job, "trainer")) == 2, 300)
        say("two trainers run, there is no room for the third")
        assert "RUNNING" in guide.run("torchx status")
        assert handle.rpartition("/")[2] in guide.run("torchx list")
        say(f"step {trained(3, 240)}")
        assert len(cluster.running(job, "trainer")) == 2

        lives = output.lives()
        first = lives[-1]["host"]
        (other,) = [pod for pod in cluster.running(job, "trainer") if pod != first]
        guide.run("kubectl delete pod $POD --force", POD=first)
        say(f"rank 0's pod {first} killed")
        new_life(lives)
        say(f"trained to step {trained(3)}")

        wait_for("two trainers", lambda: len(cluster.running(job, "trainer")) == 2, 300)
        lives = output.lives()
        cluster.evict(other)
        say(f"the other pod {other} evicted")
        new_life(lives)
        say(f"trained to step {trained(3)}")

        coordinator = f"{job}-coordinator-0-0"
        identity = cluster.get("pod", coordinator)["metadata"]["uid"]
        guide.run("kubectl delete pod ${JOB##*:}-coordinator-0-0")
        say("the coordinator's pod deleted")
        wait_for("the coordinator", lambda: _replaced(cluster.get("pod", coordinator), identity), 60)
        say(f"it is back; trained to step {trained(3)}")

        lives = output.lives()
        guide.run("kubectl patch queue")
        wait_for("a third trainer", lambda: len(cluster.running(job, "trainer")) == 3, 120)
        new_life(lives, lambda life: life["world"] == 3)
        say("room for a third trainer; it has joined")
        assert "hardviews" in guide.run("torchx log", timeout=600)
        wait_for("the end", lambda: cluster.phase(job) == "Completed", 600)
        say("pretraining is complete")
    except AssertionError:
        print(cluster.logs(job))
        for what in ("pods", "events", "endpointslices", "jobs.batch.volcano.sh"):
            print(cluster.kubectl("get", what, "--output=wide", check=False))
        raise
    assert "SUCCEEDED" in guide.run("torchx status")

    evaluations = [
        guide.run("torchx run -s kubernetes jobs/knn.py"),
        guide.run("torchx run -s kubernetes jobs/linear_"),
    ]
    names = [text.strip().rpartition(":")[2] for text in evaluations]
    wait_for("the evaluations", lambda: all(cluster.phase(name) == "Completed" for name in names), 240, every=1)
    say("evaluated by nearest neighbours and a linear probe")

    audited = guide.run("hardviews audit", **site.environment)
    print(audited)
    assert re.search(r"\b0 samples lost, 0 repeated", audited)

    client = site.tracking()
    (run,) = pretraining_runs(client)
    assert run.info.status == "FINISHED"
    found = {child.data.tags["mlflow.runName"]: child for child in children(client, run)}
    assert len(found) == 2
    assert all(child.info.status == "FINISHED" and child.data.metrics for child in found.values())

    rows = output.rows()
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    check_reports(client, run, rows, output.lives())
    for metric, values in ((name, series(client, run, name)) for name in run.data.metrics):
        steps = [step for step, _ in values]
        assert sorted(set(steps)) == steps or metric.startswith("system/"), metric
    worlds = {value for _, value in series(client, run, "world_size")}
    restarts = series(client, run, "restarts")[-1][1]
    assert {1, 2, 3} & worlds >= {2, 3}
    assert restarts == len(output.lives()) - 1 >= 3

    # The cache holds less than the dataset: more than the whole dataset was fetched.
    size = sum(shard["size"] for shard in index["shards"])
    fetched = rows[-1]["data/bytes_fetched"]
    (bound,) = re.findall(r"cache-bytes (\d+)", " ".join(commands()))
    assert int(bound) < size < fetched

    say("all is there; now the undisturbed run")
    others = reference()
    losses = ("loss", "loss/clean", "loss/adversarial", "loss/cutmix")
    distances = {name: parting(rows, others, name) for name in losses}
    say(f"{len(rows)} steps, {restarts:.0f} restarts; losses part from the undisturbed run by {distances}")
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert max(distances.values()) <= TOLERANCE
    # The losses depend on the trained samples: one that stands still would show nothing.
    assert mean(row["loss"] for row in rows[-5:]) < 0.9 * mean(row["loss"] for row in rows[:5])

    guide.run("torchx cancel")
    # The remaining commands remove the namespace and the queue, after the last test.
    assert all(command.startswith("kubectl delete ") for command in guide.left())


def _replaced(pod: dict[str, Any] | None, identity: str) -> bool:
    return pod is not None and pod["metadata"]["uid"] != identity and pod["status"].get("phase") == "Running"
