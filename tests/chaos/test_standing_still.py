"""Processes of a job are stopped or hang for good: each is noticed and reported, and the job goes on or ends.

The limits of the watchdog are short here; nothing is waited for but events.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hardviews.data.pack import pack
from tests.data.helpers import Noise
from tests.elastic.elastic import Job
from tests.elastic.processes import descendants, parent
from tests.launch.test_launcher import Launch

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc"),
]

SHORT = "silent=4,step=6,times=3"
HARDVIEWS = Path(sys.executable).parent / "hardviews"


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    made: list[Job] = []

    def make(*options: str, nodes: int) -> Job:
        made.append(Job(tmp_path, *options, nodes=nodes, watchdog=SHORT))
        made[-1].until_stepping(nodes, 60)
        # By then the agents know how long a step takes.
        taken = len(made[-1].lines("steps"))
        made[-1].until(lambda: len(made[-1].lines("steps")) > taken + 50, 60)
        return made[-1]

    yield make
    for one in made:
        one.close()


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_stopped_process_is_ended_and_its_node_begins_again(job, nodes):
    one = job(nodes=nodes)
    victim = one.life(f"n{nodes - 1}")
    stop(victim["pid"])
    one.until(lambda: one.life(victim["node"])["pid"] != victim["pid"], 60)
    one.until_stepping(nodes, 60)
    said = one.said()
    assert f"rank {victim['rank']} on {victim['node']} has taken no step for " in said
    assert "and does not answer (state T: it was stopped by a signal): the processes of this node are ended" in said
    assert not Path(f"/proc/{victim['pid']}").exists()
    assert all(node.poll() is None for node in one.nodes.values())
    # It is the node of the stopped process that is blamed.
    assert said.count("does not answer (state T") == 1


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_deadlock_in_python_is_ended_with_the_stacks_of_all(job, nodes):
    one = job(nodes=nodes)
    before = {life["pid"] for life in one.lines("lives")}
    (one.folder / f"hang-{nodes - 1}").touch()
    one.until(lambda: not before & {one.life(f"n{number}")["pid"] for number in range(nodes)}, 90)
    one.until_stepping(nodes, 60)
    said = one.said()
    assert "it answers, but made no progress for" in said
    assert "in its phase step the limit is 6 s" in said
    assert "toy_member.py" in said.partition("Current thread")[2]  # the line that it hangs in


def test_a_stopped_fork_server_holds_up_one_restart_only(job):
    one = job(nodes=2)
    victim = one.life("n1")
    stop(parent(victim["pid"]))
    os.kill(victim["pid"], signal.SIGKILL)
    one.until(lambda: one.life("n1")["pid"] != victim["pid"], 90)
    one.until_stepping(2, 60)
    assert "the prepared process is ended: it was stopped for" in one.said()


def test_a_stopped_agent_is_done_without_and_takes_nothing_with_it(job):
    one = job(nodes=2)
    victim = one.life("n1")
    stop(one.nodes["n1"].pid)
    one.until_stepping(1, 60)
    one.until(lambda: not Path(f"/proc/{victim['pid']}").exists(), 30)
    os.kill(one.nodes["n1"].pid, signal.SIGCONT)
    one.until_stepping(2, 60)


def test_a_stopped_process_does_not_outlive_its_agent(job):
    one = job(nodes=2)
    victim = one.life("n1")
    server = parent(victim["pid"])
    for pid in (victim["pid"], server):
        stop(pid)
    one.nodes["n1"].kill()
    one.until(lambda: not Path(f"/proc/{victim['pid']}").exists() and not Path(f"/proc/{server}").exists(), 30)


def test_a_process_that_is_stopped_at_every_start_ends_the_job(job):
    one = job(nodes=1)
    stopped: set[int] = set()

    def over() -> bool:
        """Stop every new process before its first step."""
        for life in one.lines("lives"):
            if life["pid"] not in stopped:
                stopped.add(life["pid"])
                try:
                    stop(life["pid"])
                except ProcessLookupError:
                    continue
        return one.nodes["n0"].poll() is not None

    one.until(over, 200)
    assert one.nodes["n0"].returncode == 3
    assert one.coordinator.wait(30) == 3
    assert "times in a row" in one.said()


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Launch]]:
    monkeypatch.setenv("HARDVIEWS_WATCHDOG", "silent=15,step=30")
    pack(Noise(90), str(tmp_path / "data"), shard_bytes=40_000)
    made: list[Launch] = []

    def launch(*words: str) -> Launch:
        end = ["pretrain", "digits", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "run")]
        end += ["--training.batch", "16", "--training.group", "4", "--training.epochs", "1000"]
        end += ["--training.checkpoint-steps", "5", "--strategy.candidates", "2", "--loader.workers", "1"]
        made.append(Launch(tmp_path, *words, *end))
        return made[-1]

    yield launch
    for one in made:
        if one.process.poll() is None:
            one.close()


def _until(one: Launch, what: Callable[[], object]) -> None:
    one.until(what, 240)  # two nodes load torch on a machine with few cores


def _steps(one: Launch, after: int) -> list[dict]:
    """Steps of a round after one."""
    return [event for event in one.events("step", "first_step") if event["round"] > after]


def test_in_a_real_training_a_stopped_rank_and_a_stopped_loader_are_replaced(launched):
    one = launched("--nnodes", "2")
    _until(one, lambda: len(_steps(one, 0)) > 12)
    last = _steps(one, 0)[-1]
    stop(last["pid"])
    _until(one, lambda: _steps(one, last["round"]))
    assert "does not answer (state T" in one.log.read_text()
    _until(one, lambda: len(_steps(one, last["round"])) > 12)
    last = _steps(one, last["round"])[-1]
    loader = descendants(last["pid"])[-1]
    assert loader != last["pid"]
    taken = len(_steps(one, 0))
    stop(loader)
    # The training process itself notices: no process of the job begins anew for it.
    _until(one, lambda: f"its batches are made again: process {loader} stood still for" in one.log.read_text())
    _until(one, lambda: len(_steps(one, 0)) > taken + 12)
    assert _steps(one, 0)[-1]["round"] == last["round"]
    assert not Path(f"/proc/{loader}").exists()


def test_launch_starts_stopped_agents_and_coordinators_again(launched):
    one = launched("--nnodes", "2")
    _until(one, lambda: len(_steps(one, 0)) > 3)
    coordinator = next(
        pid
        for pid in descendants(one.process.pid)
        if b"elastic.coordinator" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    agent = one.events("agent_started")[0]["pid"]
    stop(coordinator)
    stop(agent)
    _until(one, lambda: not Path(f"/proc/{coordinator}").exists() and not Path(f"/proc/{agent}").exists())
    last = _steps(one, 0)[-1]
    _until(one, lambda: [e for e in one.events("rendezvous_done") if e["nodes"] == 2 and e["round"] > last["round"]])
    _until(one, lambda: _steps(one, last["round"]))
    said = one.log.read_text()
    assert "launch: the coordinator does not run for" in said
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(90) == 130, said


def test_a_batch_too_small_for_the_least_number_of_processes_is_refused_at_once(tmp_path):
    words = ["launch", "--nnodes", "3", "pretrain", "digits", "--data", "d", "--output", "o"]
    words += ["--training.batch", "64", "--training.group", "32"]
    done = subprocess.run([HARDVIEWS, *words], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 2
    assert "--nnodes 3:3 invites up to 3 processes" in done.stderr
