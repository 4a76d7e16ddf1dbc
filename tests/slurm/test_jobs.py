"""Jobs on a Slurm of this machine: to the end, with trainers and nodes lost, up to the time limit, cancelled."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

SMALL = "--training.batch 16 --training.group 4 --strategy.candidates 2 --loader.workers 0 --precision.device cpu"
SMALL += " --training.checkpoint-steps 5 --training.log-steps 1"
SECRET = "never-to-be-seen"


@pytest.fixture(scope="session")
def data(cluster: Cluster) -> Path:
    """A few digits: what is tried here are jobs, and an epoch of all digits takes its time."""
    folder = cluster.folder / "digits"
    hardviews(cluster, "pack", "--source", "digits", "--out", str(folder))
    few = cluster.folder / "few"
    hardviews(cluster, "pack", "--source", str(folder), "--labels", "20%", "--out", str(few))
    return few / "train"


def hardviews(cluster: Cluster, *words: str) -> str:
    return cluster.run(str(Path(sys.executable).parent / "hardviews"), *words)


def submit(cluster: Cluster, data: Path, output: Path, epochs: int, **options: object) -> str:
    """Submit a pretraining; return the number of the job."""
    grace = options.pop("grace", 60)
    cfg = {"job_dir": cluster.folder / "logs", "partition": "main"} | options
    words = ["run", "-s", "slurm", "-cfg", ",".join(f"{name}={value}" for name, value in cfg.items())]
    words += ["jobs/pretrain.py", "--recipe", "digits", "--data", str(data), "--output", str(output)]
    words += ["--j", "1:2x1", "--cpu", "1", "--memMB", "1500", "--grace", str(grace)]
    words += ["--", *shlex.split(SMALL), "--training.epochs", str(epochs)]
    submitted = cluster.torchx(*words, AWS_SECRET_ACCESS_KEY=SECRET)
    assert submitted.returncode == 0, submitted.stderr
    return re.fullmatch(r"slurm://torchx/(\d+)", submitted.stdout.strip())[1]


def checkpoints(run: Path) -> list[Path]:
    return sorted(run.glob("checkpoints/step-*/manifest.json"))


def await_checkpoint(cluster: Cluster, job: str, run: Path, more_than: int = 0) -> None:
    """Wait until a run has a checkpoint of a step beyond one."""

    def look() -> bool:
        assert cluster.state(job) in ("PENDING", "CONFIGURING", "RUNNING"), cluster.logs(job)
        return any(int(file.parent.name.removeprefix("step-")) > more_than for file in checkpoints(run))

    until(look, f"a checkpoint of job {job}")


def newest_step(run: Path) -> int:
    return max(int(file.parent.name.removeprefix("step-")) for file in checkpoints(run))


def audit(cluster: Cluster, run: Path) -> str:
    told = hardviews(cluster, "audit", str(run))
    assert "0 samples lost, 0 repeated" in told
    return told


def assert_no_step_was_lost(run: Path) -> None:
    """The second life of a run began where the first one had ended."""
    first, second = (json.loads((run / "lives" / f"{number:04}.json").read_text()) for number in (1, 2))
    assert first["end"] is not None and second["resumed"] == first["reached"] > 0, (first, second)


def processes(*parts: str) -> dict[int, list[str]]:
    """The processes whose command holds all these words, by id."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_text().split("\0") if entry.name.isdecimal() else []
        except OSError:
            continue
        if words and Path(words[0]).name.startswith("python") and all(part in words for part in parts):
            found[int(entry.name)] = words
    return found


def agents(job: str) -> list[int]:
    """The agents of a job: the children of Slurm's own processes."""
    return [pid for pid in processes(f"slurm-{job}", "hardviews.launch.slurm.task") if "slurmstepd" in parent(pid)]


def parent(pid: int) -> str:
    """The name of a process's parent, empty if one of them has ended."""
    try:
        number = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        return Path(f"/proc/{number}/comm").read_text()
    except OSError:
        return ""


def test_a_job_of_a_coordinator_and_two_trainers_completes(cluster, data, tmp_path):
    job = submit(cluster, data, tmp_path / "run", epochs=2)
    until(lambda: len(agents(job)) == 2, "two trainers")
    for pid in agents(job):
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    shown = cluster.run("scontrol", "show", "job", job) + cluster.run("scontrol", "write", "batch_script", job, "-")
    assert "HetJobOffset=1" in shown and "hetjob" in shown and SECRET not in shown
    status = cluster.torchx("status", f"slurm://torchx/{job}")
    assert "RUNNING" in status.stdout and "trainer[1]" in status.stdout, status.stderr
    cluster.await_state(job, "COMPLETED")
    assert "2 nodes with 2 processes" in cluster.logs(job)
    audit(cluster, tmp_path / "run")
    assert (tmp_path / "run" / "encoder" / "encoder.json").exists()
    status = cluster.torchx("status", f"slurm://torchx/{job}")
    assert "SUCCEEDED" in status.stdout, status.stderr
    log = cluster.torchx("log", f"slurm://torchx/{job}/coordinator")
    assert "coordinator/0 slurm: the coordinator is at" in re.sub(r"\x1b\[\d+m", "", log.stdout + log.stderr)
    assert f"slurm://torchx/{job}" in cluster.torchx("list", "-s", "slurm").stdout
    assert "trainer" in cluster.torchx("describe", f"slurm://torchx/{job}").stdout


def test_a_trainer_that_is_killed_comes_back_and_nothing_is_lost(cluster, data, tmp_path):
    job = submit(cluster, data, tmp_path / "run", epochs=6)
    await_checkpoint(cluster, job, tmp_path / "run")
    before = agents(job)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(now := agents(job)) == 2 and before[0] not in now, "the trainer's return")
    port = re.search(r"the coordinator is at \S+:(\d+);", cluster.logs(job))[1]
    (coordinator,) = processes("hardviews.elastic.coordinator", port)
    os.kill(coordinator, signal.SIGKILL)
    until(lambda: processes("hardviews.elastic.coordinator", port).keys() - {coordinator}, "the coordinator's return")
    cluster.await_state(job, "COMPLETED")
    assert "was killed by SIGKILL; starting it again" in cluster.logs(job)
    audit(cluster, tmp_path / "run")


def lose_a_node(cluster: Cluster, job: str) -> str:
    node = cluster.nodes(job)[-1]
    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    return node


def bring_back(cluster: Cluster, node: str) -> None:
    """Repair a node; Slurm refuses that while it still ends the node's processes."""

    def look() -> bool:
        shown = cluster.run("scontrol", "show", "node", node)
        if "Reason=test" in shown:
            command = ["scontrol", "update", f"NodeName={node}", "State=RESUME"]
            subprocess.run(command, env=cluster.variables, capture_output=True)
            return False
        return re.search(r"State=(IDLE|MIXED|ALLOCATED)(\s|\+COMPLETING)", shown) is not None

    until(look, f"{node} to be back")


def begin_now(cluster: Cluster, job: str) -> None:
    """Spare the test the two minutes that Slurm lets a job wait which was queued again."""
    for part in cluster.run("squeue", "--noheader", "--jobs", job, "--format", "%A").split():
        cluster.run("scontrol", "update", f"JobId={part}", "StartTime=now")


def test_with_the_coordinator_beside_a_trainer_a_lost_node_leaves_the_others_at_work(cluster, data, tmp_path):
    job = submit(cluster, data, tmp_path / "run", epochs=8, beside="true")
    await_checkpoint(cluster, job, tmp_path / "run")
    node = lose_a_node(cluster, job)
    until(
        lambda: "1 nodes with 1 processes" in cluster.logs(job) or "1 node with 1 process" in cluster.logs(job), "one"
    )
    assert cluster.state(job) == "RUNNING"
    bring_back(cluster, node)
    cluster.await_state(job, "COMPLETED")
    assert "Restarts=0" in cluster.run("scontrol", "show", "job", job)
    audit(cluster, tmp_path / "run")


def test_in_a_job_of_two_parts_a_lost_node_has_slurm_begin_the_job_again(cluster, data, tmp_path):
    job = submit(cluster, data, tmp_path / "run", epochs=6)
    await_checkpoint(cluster, job, tmp_path / "run")
    node = lose_a_node(cluster, job)
    cluster.await_state(job, "PENDING")
    bring_back(cluster, node)
    step = newest_step(tmp_path / "run")
    begin_now(cluster, job)
    await_checkpoint(cluster, job, tmp_path / "run", more_than=step)
    cluster.await_state(job, "COMPLETED")
    audit(cluster, tmp_path / "run")


def test_before_the_time_limit_a_job_saves_and_is_queued_again(cluster, data, tmp_path):
    job = submit(cluster, data, tmp_path / "run", epochs=6, time=5, grace=30)
    await_checkpoint(cluster, job, tmp_path / "run")
    for part in cluster.run("squeue", "--noheader", "--jobs", job, "--format", "%A").split():
        cluster.run("scontrol", "update", f"JobId={part}", "TimeLimit=2")
    cluster.await_state(job, "PENDING")
    told = cluster.logs(job)
    assert "SIGUSR1: the processes save and leave" in told and "the job is queued again" in told
    step = newest_step(tmp_path / "run")
    for part in cluster.run("squeue", "--noheader", "--jobs", job, "--format", "%A").split():
        cluster.run("scontrol", "update", f"JobId={part}", "TimeLimit=60")
    begin_now(cluster, job)
    await_checkpoint(cluster, job, tmp_path / "run", more_than=step)
    cluster.await_state(job, "COMPLETED")
    audit(cluster, tmp_path / "run")
    assert_no_step_was_lost(tmp_path / "run")


def test_a_cancelled_job_saves_first_and_the_same_command_goes_on(cluster, data, tmp_path):
    job = submit(cluster, data, tmp_path / "run", epochs=100)
    await_checkpoint(cluster, job, tmp_path / "run")
    cancelled = cluster.torchx("cancel", f"slurm://torchx/{job}")
    assert (cancelled.returncode, "save and leave" in cancelled.stderr) == (0, True), cancelled.stderr
    cluster.await_state(job, "CANCELLED")
    assert not agents(job)
    step = newest_step(tmp_path / "run")
    job = submit(cluster, data, tmp_path / "run", epochs=100, start=1)
    await_checkpoint(cluster, job, tmp_path / "run", more_than=step)
    assert "CANCELLED" in cluster.torchx("status", f"slurm://torchx/{int(job) - 2}").stdout
    assert_no_step_was_lost(tmp_path / "run")
    # A second job adds a node, and leaves with the first.
    other = submit(cluster, data, tmp_path / "run", epochs=100, join=job)
    until(lambda: "2 nodes with 2 processes" in cluster.logs(job), "the node that joins")
    subprocess.run(["scancel", job], env=cluster.variables, check=True)
    cluster.await_state(other, "COMPLETED", "FAILED", "CANCELLED")
    cluster.await_state(job, "CANCELLED")
    audit(cluster, tmp_path / "run")
