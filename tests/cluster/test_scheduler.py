"""The scheduler on a real cluster: Volcano's objects of the manifest, and the answers of `torchx` about a job."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hardviews.launch.kubernetes.manifest import SERVICE
from tests.cluster.cluster import Cluster, unusable, wait_for
from tests.cluster.conftest import _queue_gone
from tests.launch.kubernetes.jobs import job, manifest

ROOT = Path(__file__).parents[2]
SITE = {
    "HARDVIEWS_DATA": "s3://nowhere/data",
    "HARDVIEWS_OUTPUT": "s3://nowhere/run",
    "MLFLOW_TRACKING_URI": "http://nowhere:5000",
}
# A process that answers SIGTERM as ours do, and ends with the given code.
STAND_IN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("started", flush=True)
while not os.path.exists("/tmp/end"):
    time.sleep(0.1)
print("the reason", file=sys.stderr, flush=True)
sys.exit(int(open("/tmp/end").read()))
"""


def torchx(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "torchx"), *words]
    environment = os.environ | SITE | variables
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A namespace that admits restricted pods only, and a queue of the same name without limits."""
    if reason := unusable():
        pytest.skip(reason)
    space = Cluster(f"hardviews-test-{secrets.token_hex(3)}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    queue = {"apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "spec": {"weight": 1}}
    try:
        space.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space.namespace, "labels": labels}},
            queue | {"metadata": {"name": space.namespace}},
        )
        space.pull(os.environ["HARDVIEWS_IMAGE"])
        yield space
    finally:
        space.kubectl("delete", "namespace", space.namespace, "--wait=true", "--timeout=400s", timeout=410, check=False)
        wait_for("the queue's end", lambda: _queue_gone(space, space.namespace), 60, every=2)


@pytest.fixture
def room(cluster: Cluster) -> Iterator[str]:
    """The options that name our namespace and queue; objects that a test leaves are removed."""
    yield f"namespace={cluster.namespace},queue={cluster.namespace}"
    cluster.kubectl("delete", "jobs.batch.volcano.sh", "--all", "--wait=false")


def submit(room: str, *words: str, **variables: str) -> tuple[str, str]:
    """Submits a job; returns its handle and its name."""
    done = torchx("run", "-s", "kubernetes", "-cfg", room, *words, **variables)
    assert done.returncode == 0, done.stderr
    assert f"torchx status {done.stdout.strip()}" in done.stderr  # the next command
    return done.stdout.strip(), done.stdout.strip().rpartition(":")[2]


def shown(handle: str) -> str:
    done = torchx("status", handle)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def shows(handle: str, *words: str, seconds: float = 400) -> str:
    """Waits until `torchx status` shows all of the words; a node may have to pull the image first."""

    def look() -> str | None:
        text = shown(handle)
        return text if all(word in text for word in words) else None

    return wait_for(f"{words} in the status of {handle}", look, seconds, every=2)


@pytest.mark.parametrize(
    ("options", "words", "said"),
    [
        (",queue=nobodys", ["jobs/pretrain.py"], ["no queue nobodys"]),
        ("", ["jobs/pretrain.py", "--secret", "nobodys"], ["no secret nobodys", "kubectl"]),
        (",namespace=nobodys", ["jobs/knn.py"], ["no namespace nobodys"]),
        (",service_account=nobodys", ["jobs/knn.py"], ["no service account nobodys"]),
        ("", ["jobs/knn.py", "--priority", "nobodys"], ["no priority class nobodys"]),
        ("", ["jobs/knn.py", "--mount", "type=volume,src=nobodys,dst=/x"], ["no volume claim nobodys"]),
        ("", ["jobs/knn.py", "--mount", "type=bind,src=/tmp,dst=/x"], ["PodSecurity", "hostPath"]),
    ],
)
def test_what_the_cluster_lacks_is_named_and_nothing_is_submitted(cluster, room, options, words, said):
    names = dict(part.split("=") for part in (room + options).split(","))
    done = torchx("run", "-s", "kubernetes", "-cfg", ",".join(f"{k}={v}" for k, v in names.items()), *words)
    assert done.returncode == 2
    for word in said:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert not cluster.get("jobs.batch.volcano.sh")


def test_an_image_that_does_not_exist_is_one_clear_message(room):
    handle, _ = submit(room, "jobs/knn.py", HARDVIEWS_IMAGE="127.0.0.1:1/nothing:1")
    shows(handle, "PENDING", "The image 127.0.0.1:1/nothing:1 of evaluation/0 cannot be pulled")
    done = torchx("log", handle)
    assert (done.returncode, "cannot be pulled" in done.stderr) == (2, True)


def test_a_job_that_fits_no_node_says_so(room):
    handle, _ = submit(room, "jobs/pretrain.py", "--cpu", "9999", "-j", "1:2")
    text = shows(handle, "PENDING", "9999 of cpu")
    assert re.search(r"largest node has \d+", text)


def test_a_mistake_that_only_the_job_finds_out_ends_it_with_its_paragraph(room):
    # A folder of the pod, which nobody sees from outside.
    handle, _ = submit(room, "jobs/knn.py", "--cpu", "1", "--", "--project", "/proc/nowhere")
    text = shows(handle, "FAILED")
    assert "exit code 2" in text
    assert "--project: /proc/nowhere cannot be written" in text
    assert "--project: /proc/nowhere cannot be written" in torchx("log", f"{handle}/evaluation").stdout


def test_a_mistake_that_the_checkout_knows_is_not_submitted(room):
    done = torchx("run", "-s", "kubernetes", "-cfg", room, "jobs/knn.py", "--cpu", "1", "--", "--no-such-setting", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--no-such-setting" in done.stderr


def test_a_job_is_listed_followed_cancelled_and_deleted(cluster, room):
    handle, name = submit(room, "jobs/knn.py", "--cpu", "1", "--wait", "3000")
    assert handle in torchx("list", "-s", "kubernetes").stdout
    assert "hardviews.cli" in torchx("describe", handle).stdout
    shows(handle, "State: RUNNING")
    assert torchx("cancel", handle).returncode == 0
    shows(handle, "CANCELLED")
    wait_for("the pods' end", lambda: not cluster.pods(name), 60)
    assert torchx("delete", handle).returncode == 0
    wait_for("the job's end", lambda: cluster.get("jobs.batch.volcano.sh", name) is None, 30)
    done = torchx("status", handle)
    assert (done.returncode, "There is no job" in done.stderr) == (2, True)


def submit_stand_ins(cluster: Cluster, probe: dict[str, int] | None = None) -> str:
    """Submit a job of three trainers, any one of which suffices, whose processes are stand-ins; return its name.

    Its coordinator does not answer. It has the product's liveness probe, with the times of `probe`, or none.
    """
    image = os.environ["HARDVIEWS_IMAGE"]
    made = manifest(job(image=image, j="1:3", cpu=0.1, memMB=200), queue=cluster.namespace)
    for task in made["spec"]["tasks"]:
        container = task["template"]["spec"]["containers"][0]
        container |= {"command": ["python", "-c", STAND_IN]}
        container["resources"] = {key: value | {"cpu": "100m"} for key, value in container["resources"].items()}
        if "livenessProbe" in container:
            container["livenessProbe"] = {**container["livenessProbe"], **probe} if probe else None
    cluster.apply(dict(SERVICE), made)
    name = str(made["metadata"]["name"])
    wait_for("all pods", lambda: len(cluster.running(name, "trainer")) == 3, 400)
    wait_for("the coordinator", lambda: cluster.running(name, "coordinator"), 60)
    return name


@pytest.fixture
def stand_ins(cluster: Cluster, room: str) -> str:
    """The name of a job of stand-ins."""
    return submit_stand_ins(cluster)


def identity(cluster: Cluster, pod: str) -> tuple[str, str, int]:
    """The pod's identity, its phase and how often its container was restarted."""
    found: dict[str, Any] = cluster.get("pod", pod) or {"metadata": {"uid": ""}, "status": {}}
    containers = found["status"].get("containerStatuses") or [{}]
    return found["metadata"]["uid"], found["status"].get("phase", ""), int(containers[0].get("restartCount", 0))


def finds_the_coordinator(cluster: Cluster, pod: str) -> bool:
    """Whether the name of the coordinator, as a trainer is given it, has an address."""
    program = "import os, socket; socket.getaddrinfo(os.environ['VC_COORDINATOR_0_HOSTS'], 1); print('found')"
    return "found" in cluster.kubectl("exec", pod, "--", "python", "-c", program, check=False)


def end(cluster: Cluster, pod: str, code: int) -> None:
    cluster.kubectl("exec", pod, "--", "sh", "-c", f"echo {code} > /tmp/end")


def test_pods_come_back_without_the_job_restarting(cluster, stand_ins):
    coordinator, first, second, third = (
        f"{stand_ins}-{pod}" for pod in ("coordinator-0-0", "trainer-0", "trainer-1", "trainer-2")
    )
    before = {pod: identity(cluster, pod) for pod in (coordinator, first, second, third)}
    # Deleted with its grace period, evicted, and its container ended: all within the patience of the policies.
    cluster.kubectl("delete", "pod", coordinator, "--wait=false")
    cluster.evict(first)
    end(cluster, second, 1)
    for pod in (coordinator, first):
        wait_for(
            f"another {pod}",
            lambda pod=pod: (
                identity(cluster, pod)[0] not in ("", before[pod][0]) and identity(cluster, pod)[1] == "Running"
            ),
            90,
        )
    wait_for("a restart in place", lambda: identity(cluster, second)[2] >= 1, 60)
    # Failed for good, as a pod that its node has evicted for want of memory.
    cluster.kubectl("patch", "pod", third, "--type=merge", "--patch", '{"spec":{"activeDeadlineSeconds":1}}')
    wait_for("a failed trainer", lambda: identity(cluster, third)[1] == "Failed", 60)
    wait_for("its successor", lambda: identity(cluster, third)[1] == "Running", 150)
    assert identity(cluster, second)[0] == before[second][0]
    for pod in (first, third):  # Volcano has deleted its own Service of the job by now
        wait_for("the coordinator's name", lambda pod=pod: finds_the_coordinator(cluster, pod), 90)
    assert cluster.phase(stand_ins) == "Running"
    status = cluster.get("jobs.batch.volcano.sh", stand_ins)["status"]
    assert status.get("retryCount", 0) == 0


def test_a_job_is_complete_when_its_coordinator_is(cluster, stand_ins):
    end(cluster, f"{stand_ins}-coordinator-0-0", 0)
    wait_for("the end", lambda: cluster.phase(stand_ins) == "Completed", 90)


def test_a_job_fails_with_its_coordinators_reason(cluster, stand_ins):
    end(cluster, f"{stand_ins}-coordinator-0-0", 3)
    wait_for("the end", lambda: cluster.phase(stand_ins) == "Terminated", 90)
    text = shown(f"kubernetes://torchx/{cluster.namespace}:{stand_ins}")
    assert "FAILED" in text
    assert "coordinator/0 ended with exit code 3" in text
    assert "the reason" in text


def test_a_coordinator_that_crashes_restarts_the_job(cluster, stand_ins):
    before = identity(cluster, f"{stand_ins}-trainer-0")
    end(cluster, f"{stand_ins}-coordinator-0-0", 1)
    wait_for(
        "a restarted job",
        lambda: (
            cluster.running(stand_ins, "coordinator")
            and identity(cluster, f"{stand_ins}-trainer-0")[0] not in ("", before[0])
        ),
        180,
    )
    wait_for("a running job", lambda: cluster.phase(stand_ins) == "Running", 60)
    wait_for("the coordinator's name", lambda: finds_the_coordinator(cluster, f"{stand_ins}-trainer-0"), 120)


def test_a_coordinator_that_does_not_answer_is_replaced(cluster, room):
    name = submit_stand_ins(cluster, {"initialDelaySeconds": 20, "periodSeconds": 5, "failureThreshold": 2})
    before = identity(cluster, f"{name}-coordinator-0-0")
    wait_for(
        "a failed coordinator", lambda: identity(cluster, f"{name}-coordinator-0-0")[:2] == (before[0], "Failed"), 120
    )
    wait_for(
        "another coordinator",
        lambda: identity(cluster, f"{name}-coordinator-0-0")[0] not in ("", before[0]),
        180,
    )
