"""From an empty namespace to an evaluated encoder: by one `helm install`, and by the same jobs of `torchx run`.

    python benchmarks/chart.py [--rounds 1]
    python benchmarks/chart.py --nodes 50

It needs a cluster as `make test-cluster` does (KUBECONFIG, HARDVIEWS_IMAGE, OBJECT_STORE_IMAGE), and helm. The first
form packs photographs, pretrains on two trainers and evaluates by k-NN, linearly and by transfer. It does so by the
chart with ci/kind.yaml (servers, jobs and `helm test`), then by docs/servers.yaml and `torchx run`, and prints both.

The second form needs kwok on the PATH. It adds so many simulated nodes of 8 GPUs, installs a pretraining of
`j: 8:NODESx8` with the chart, and measures the time until all its pods are bound to a node. The exit code is not 0
above the target.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the tests know how to ask a cluster

from tests.cluster.cluster import Cluster, unusable, wait_for  # noqa: E402
from tests.cluster.release import CHART, STORE, Release, laptop  # noqa: E402

RATIO, BOUND = 1.3, 15.0  # at most: times the time of TorchX, and seconds until all pods are bound
GPUS = 8
LIMIT = 3600.0
EVALUATIONS = ("knn", "linear", "transfer")


@contextmanager
def namespace():
    """Make a namespace that is gone afterwards."""
    made = Cluster(f"hardviews-bench-{secrets.token_hex(3)}")
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}})
    try:
        yield made
    finally:
        made.kubectl("delete", "jobs.batch.volcano.sh", "--all", "--wait=true", check=False, timeout=200)
        made.kubectl("delete", "namespace", made.namespace, "--wait=true", "--timeout=400s", check=False, timeout=410)


def timed(work: Callable[[Cluster], None]) -> float:
    """Return the seconds that the work takes in an empty namespace, the images being on the nodes."""
    with namespace() as cluster:
        cluster.pull(os.environ["HARDVIEWS_IMAGE"])
        cluster.pull(os.environ["OBJECT_STORE_IMAGE"])
        began = time.monotonic()
        work(cluster)
        return time.monotonic() - began


def by_chart(cluster: Cluster) -> None:
    """Install ci/kind.yaml, wait for every job, and test the release."""
    demo = Release(cluster, "demo")
    demo.install(*laptop())
    for part in ("pack", "pretrain", *EVALUATIONS):
        demo.wait_for_job(part, LIMIT)
    demo.helm("test", demo.name)


def by_torchx(cluster: Cluster) -> None:
    """Make the servers of docs/servers.yaml, submit the same jobs at once, and wait for every one."""
    images = {name: os.environ[name] for name in ("OBJECT_STORE_IMAGE", "HARDVIEWS_IMAGE")}
    servers = (ROOT / "docs" / "servers.yaml").read_text()
    for name, image in images.items():
        servers = servers.replace(name, image)
    literals = {**STORE, "AWS_ENDPOINT_URL": "http://store:8333", "AWS_REGION": "us-east-1"}
    words = [f"--from-literal={key}={value}" for key, value in literals.items()]
    cluster.kubectl("create", "secret", "generic", "store", *words)
    cluster.kubectl("apply", "-f", "-", given=servers)
    for name in ("store", "mlflow"):
        cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s", timeout=310)
    bucket = "echo s3.bucket.create -name hardviews | weed shell -master=localhost:9333 -filer=localhost:8888"
    look = "echo s3.bucket.list | weed shell -master=localhost:9333 -filer=localhost:8888"
    shell = ("exec", "deployment/store", "--", "sh", "-c")
    wait_for(
        "a bucket",
        lambda: (
            cluster.kubectl(*shell, bucket, check=False) and "hardviews" in cluster.kubectl(*shell, look, check=False)
        ),
        60,
    )
    pack = ("--source", "photographs", "--cpu", "1", "--", "--shard-bytes", "1000000")
    pretrain = ("--recipe", "smoke", "-j", "1:2x1", "--cpu", "1", "--memMB", "2500", "--wait", "3600")
    pretrain += ("--", "--loader.reader.cache-bytes", "5000000")
    submitted = [submit(cluster, "pack", *pack), submit(cluster, "pretrain", *pretrain)]
    submitted += [submit(cluster, name, "--cpu", "1") for name in ("knn", "linear_eval", "transfer_eval")]
    for job in submitted:
        wait_for(f"the end of {job}", lambda job=job: cluster.phase(job) == "Completed", LIMIT, every=2)


def submit(cluster: Cluster, job: str, *words: str) -> str:
    """Submit a job as docs/cluster.md does; return its name."""
    options = f"namespace={cluster.namespace},queue=default,secrets=store,image_pull_policy=IfNotPresent"
    variables = {
        "HARDVIEWS_DATA": "s3://hardviews/photographs",
        "HARDVIEWS_OUTPUT": "s3://hardviews/first",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "torchx", "run", "-s", "kubernetes", "-cfg", options, f"jobs/{job}.py", *words],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().rpartition(":")[2]


def simulated(cluster: Cluster, number: int) -> float:
    """Return the seconds from the installation until all pods of a job on simulated nodes are bound."""
    label = f"bench-{secrets.token_hex(3)}"
    capacity = {"cpu": "96", "memory": "900Gi", "pods": "110", "nvidia.com/gpu": str(GPUS)}
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": f"{label}-{k}",
                "labels": {"type": label, "kubernetes.io/hostname": f"{label}-{k}"},
                "annotations": {"kwok.x-k8s.io/node": "fake"},
            },
            "status": {"allocatable": capacity, "capacity": capacity},
        }
        for k in range(number)
    ]
    kwok = subprocess.Popen(
        ["kwok", "--kubeconfig", os.environ["KUBECONFIG"], "--manage-nodes-with-label-selector", f"type={label}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    values = [
        "--set",
        "pretrain.enabled=true",
        "--set",
        f"pretrain.j=8:{number}x{GPUS}",
        "--set",
        f"pretrain.gpu={GPUS}",
    ]
    values += ["--set", "pretrain.cpu=32", "--set", "pretrain.memMB=100000", "--set", f"pod.nodeSelector.type={label}"]
    values += ["--set", "image=hardviews:1,data=s3://b/d,output=s3://b/o,tracking=http://mlflow:5000"]
    try:
        cluster.apply(*nodes)
        wait_for("the simulated nodes", lambda: ready(cluster, label) == number, 120)
        began = time.monotonic()
        subprocess.run(
            ["helm", "install", "many", str(CHART), "--namespace", cluster.namespace, *values],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wait_for("all pods on nodes", lambda: bound(cluster) == number + 1, 300, every=0.25)
        return time.monotonic() - began
    finally:
        subprocess.run(["helm", "uninstall", "many", "--namespace", cluster.namespace], stdout=subprocess.DEVNULL)
        cluster.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", check=False, timeout=120)
        cluster.kubectl("delete", "nodes", "--selector", f"type={label}", check=False, timeout=120)
        kwok.terminate()
        kwok.wait(10)


def ready(cluster: Cluster, label: str) -> int:
    found = json.loads(cluster.kubectl("get", "nodes", "--selector", f"type={label}", "--output", "json"))["items"]
    conditions = [node.get("status", {}).get("conditions", []) for node in found]
    return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in each) for each in conditions)


def bound(cluster: Cluster) -> int:
    return sum(bool(pod["spec"].get("nodeName")) for pod in cluster.get("pods") or [])


def main() -> int:
    """Print the figures; return 1 above the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="of both ways in turn")
    parser.add_argument("--nodes", type=int, default=0, help="simulate so many nodes instead")
    options = parser.parse_args()
    if reason := unusable() or (None if shutil.which("helm") else "there is no helm"):
        print(f"Not measured: {reason}.")
        return 0
    if options.nodes:
        with namespace() as cluster:
            seconds = simulated(cluster, options.nodes)
        print(f"All {options.nodes + 1} pods of -j 8:{options.nodes}x{GPUS} were bound after {seconds:.1f} s.")
        return int(seconds > BOUND)
    ratios = []
    for k in range(options.rounds):
        chart, torchx = timed(by_chart), timed(by_torchx)
        ratios.append(chart / torchx)
        print(f"round {k + 1}: chart {chart:.0f} s, torchx {torchx:.0f} s, ratio {chart / torchx:.2f}", flush=True)
    ratio = sorted(ratios)[len(ratios) // 2]
    print(f"From nothing to an evaluated encoder: {ratio:.2f} times the time of torchx run (at most {RATIO}).")
    return int(ratio > RATIO)


if __name__ == "__main__":
    sys.exit(main())
