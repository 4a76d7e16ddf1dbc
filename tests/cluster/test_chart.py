"""The Helm chart on a real cluster: the values for a laptop, from an empty namespace to evaluations, and upgrades."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.conftest import _unusable

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "hardviews"
RELEASE = "demo"


@pytest.fixture(scope="module")
def space() -> Iterator[Cluster]:
    """A namespace that admits restricted pods only."""
    if reason := _unusable():
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
        made.kubectl("delete", "namespace", made.namespace, "--wait=true", "--timeout=400s", timeout=410, check=False)


def helm(space: Cluster, *words: str, timeout: float = 300) -> str:
    done = subprocess.run(
        ["helm", *words, "--namespace", space.namespace], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"helm {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def values(*changes: str) -> list[str]:
    """The words that give the values for a laptop, with the images of this cluster."""
    images = [f"image={os.environ['HARDVIEWS_IMAGE']}", f"objectStore.image={os.environ['OBJECT_STORE_IMAGE']}"]
    sets = [word for change in (*images, *changes) for word in ("--set-string", change)]
    return ["--values", str(CHART / "ci" / "kind.yaml"), *sets]


def jobs(space: Cluster) -> dict[str, tuple[str, str]]:
    """Name and uid of each job, by the command that it runs."""
    found = space.get("jobs.batch.volcano.sh") or []
    metadata = [made["metadata"] for made in found if "deletionTimestamp" not in made["metadata"]]
    return {each["labels"]["app.kubernetes.io/component"]: (each["name"], each["uid"]) for each in metadata}


def test_a_laptop_packs_pretrains_and_evaluates(space, tmp_path):
    """The commands of the chart's README, and what they leave."""
    helm(space, "install", RELEASE, str(CHART), *values())
    made = jobs(space)
    assert made.keys() == {"pack", "pretrain", "knn", "linear", "transfer"}
    space.kubectl("rollout", "status", "deployment/demo-hardviews-store", "--timeout=300s", timeout=310)
    space.kubectl("rollout", "status", "deployment/demo-hardviews-mlflow", "--timeout=300s", timeout=310)
    checked = helm(space, "test", RELEASE, "--logs")
    for line in ("names    passed", "data     passed", "output   passed", "tracking passed", "queue    passed"):
        assert line in checked
    for name, (job, _) in made.items():
        wait_for(f"the end of {name}", lambda job=job: space.phase(job) == "Completed", 1500, every=5)
    with space.forwarded("demo-hardviews-mlflow", 5000, tmp_path) as port:
        client = MlflowClient(f"http://127.0.0.1:{port}")
        runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
        tops = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        assert len(tops) == 1
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == tops[0].info.run_id]
        assert len(children) >= 3


def test_the_same_values_do_nothing_and_others_start_what_they_concern(space):
    before = jobs(space)
    helm(space, "upgrade", RELEASE, str(CHART), *values())
    assert jobs(space) == before
    helm(space, "upgrade", RELEASE, str(CHART), *values("knn.round=2"))
    after = wait_for("the end of the old job", lambda: len(jobs(space)) == 5 and jobs(space), 60)
    assert {name for name in before if after[name] != before[name]} == {"knn"}
    job = after["knn"][0]
    wait_for("the evaluation", lambda: space.phase(job) == "Completed", 600, every=5)
    helm(space, "rollback", RELEASE, "1")
    back = jobs(space)
    assert {name: each[0] for name, each in back.items()} == {name: each[0] for name, each in before.items()}
    assert {name for name in before if back[name] != before[name]} == {"knn"}


def test_nothing_is_left(space):
    helm(space, "uninstall", RELEASE)
    ours = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component!=test"
    wait_for("the end of all pods", lambda: not space.get("pods", "--selector", ours), 200)
    assert jobs(space) == {}
    assert space.get("secret", "demo-hardviews-store") is None
