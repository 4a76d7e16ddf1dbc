"""Real agents and a real coordinator through the events of a job: kills, a power cut, leaving, joining, the end.

The tests share three nodes, in the order in which they stand here: each begins with a job that is whole.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.elastic.elastic import NODES, Job
from tests.elastic.processes import descendants, parent

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("elastic"),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    job = Job(tmp_path_factory.mktemp("elastic"))
    yield job
    job.close()


@pytest.fixture
def job(shared: Job) -> Job:
    shared.make_whole()
    return shared


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    made: list[Job] = []

    def make(*options: str, nodes: int = 1, **variables: str) -> Job:
        made.append(Job(tmp_path, *options, nodes=nodes, **variables))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_first_round_has_all_nodes(job):
    first = [life for life in job.lines("lives") if life["round"] == 1]
    assert sorted(life["rank"] for life in first) == [0, 1, 2]
    assert {life["world"] for life in first} == {NODES}
    assert {life["last_reached"] for life in first} == {None}


def test_a_killed_process_is_replaced_and_all_nodes_go_on(job):
    victim = job.life("n1")
    reached = job.step()["step"]
    os.kill(victim["pid"], signal.SIGKILL)
    job.until(lambda: job.life("n1")["pid"] != victim["pid"])
    job.until_stepping(NODES)
    assert job.life("n1")["last_reached"] >= reached


def test_the_node_of_rank_0_is_killed_and_the_others_go_on_without_it(job):
    leader = job.leader()
    job.kill_node(leader)
    assert job.until_stepping(NODES - 1, 10) < 8
    job.start_node(leader)
    job.until_stepping(NODES)


def test_a_killed_agent_takes_its_process_with_it(job):
    victim = job.life("n2")
    job.nodes["n2"].kill()
    job.nodes["n2"].wait()
    job.until(lambda: not Path(f"/proc/{victim['pid']}").exists(), 5)
    job.until_stepping(NODES - 1, 10)


def test_the_process_that_others_are_forked_from_is_killed(job):
    victim = job.life("n1")
    os.kill(parent(victim["pid"]), signal.SIGKILL)
    # The others do not wait for a node that has to load everything again.
    assert job.until_stepping(NODES - 1, 15) < 8
    job.until_stepping(NODES, 15)
    assert job.life("n1")["pid"] != victim["pid"]
    assert not Path(f"/proc/{victim['pid']}").exists()
    assert job.nodes["n1"].poll() is None


def test_power_is_cut_and_comes_back(job):
    """Everything of a node stands still, its connections stay open: only the time limit detects it."""
    stopped = descendants(job.nodes["n0"].pid)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        took = job.until_stepping(NODES - 1, 30)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert took > 5  # a machine that is only slow is not given up at once
    job.until_stepping(NODES)
    assert job.nodes["n0"].poll() is None


def test_a_node_leaves_in_good_order_and_no_step_is_lost(job):
    before = len(job.lines("steps"))
    job.nodes["n1"].terminate()
    assert job.nodes["n1"].wait(20) == 128 + signal.SIGTERM
    job.until_stepping(NODES - 1)
    steps = [line["step"] for line in job.lines("steps")][before:]
    assert steps == list(range(steps[0], steps[0] + len(steps)))


def test_a_node_that_joins_interrupts_in_good_order(job):
    job.nodes["n1"].terminate()
    job.nodes["n1"].wait(20)
    job.until_stepping(NODES - 1)
    before = len(job.lines("steps"))
    job.start_node("n1")
    job.until_stepping(NODES)
    steps = [line["step"] for line in job.lines("steps")][before:]
    assert steps == list(range(steps[0], steps[0] + len(steps)))


def test_training_goes_on_while_the_coordinator_is_away_and_a_failure_waits_for_it(job):
    rounds = job.life("n0")["round"]
    job.coordinator.kill()
    job.coordinator.wait()
    since = time.time() + 2
    job.until(lambda: job.stepping(NODES, since))
    victim = job.life("n1")
    os.kill(victim["pid"], signal.SIGKILL)
    time.sleep(1.5)
    assert job.step()["time"] < time.time() - 1
    job.start_coordinator()
    job.until_stepping(NODES)
    assert job.life("n0")["round"] == rounds + 1


def test_a_new_coordinator_takes_over_without_an_interruption(job):
    before = job.life("n0")
    job.coordinator.kill()
    job.coordinator.wait()
    job.start_coordinator()
    since = time.time() + 4
    job.until(lambda: job.stepping(NODES, since))
    assert job.life("n0") == before


def test_the_end_reaches_all_and_one_that_comes_late(job):
    (job.folder / "enough").touch()
    assert [node.wait(30) for node in job.nodes.values()] == [0] * NODES
    assert job.coordinator.wait(30) == 0


def test_a_coordinator_that_dies_at_the_end_gets_the_report_again(other):
    job = other(nodes=2)
    job.until(lambda: job.lines("steps"))
    job.coordinator.kill()
    job.coordinator.wait()
    (job.folder / "enough").touch()
    time.sleep(1)
    assert [node.poll() for node in job.nodes.values()] == [None, None]
    late = job.start_node("late")
    job.until(lambda: len(descendants(late.pid)) > 1)  # it has started the process that others are forked from
    job.start_coordinator()
    assert [node.wait(30) for node in job.nodes.values()] == [0, 0, 0]
    assert late.returncode == 0
    assert job.coordinator.wait(30) == 0


def test_a_mistake_in_the_code_is_given_up(other):
    job = other("--fail")
    assert job.coordinator.wait(60) == 3
    assert job.nodes["n0"].wait(20) == 3
    reason = "rank 0 failed 3 times in a row without a step between: ValueError: a mistake in the code"
    assert f"the job failed: {reason}" in job.said()


def test_a_mistake_of_the_user_ends_the_job_on_all_nodes(other):
    job = other("--fail-user", nodes=2)
    assert job.coordinator.wait(30) == 3
    assert [node.wait(20) for node in job.nodes.values()] == [2, 2]
    assert "the job failed: The data is not there. Put it there." in job.said()
    assert "Traceback" not in job.said()


def test_a_node_of_another_command_is_refused_and_does_no_harm(other):
    job = other()
    job.until(lambda: job.lines("steps"))
    job.options = ("--fail",)
    stranger = job.start_node("stranger")
    assert stranger.wait(20) == 2
    assert "run another command" in job.said()
    job.until_stepping(1)


def test_memory_that_does_not_hold_the_libraries_ends_the_job(other):
    job = other(TOY_IS_TOO_LARGE="1")
    assert job.coordinator.wait(60) == 3
    assert job.nodes["n0"].wait(20) == 2
    reason = (
        "on n0 the libraries could not be loaded: it was killed by signal 9 (SIGKILL), as happens when memory runs out"
    )
    assert f"the job failed: {reason}" in job.said()
    assert "Give more memory (on a cluster: --memMB)" in job.said()
    assert job.said().count("attempt") == 3


def test_memory_that_does_not_hold_the_libraries_of_one_node_leaves_the_others_alone(other):
    job = other()
    job.until(lambda: job.lines("steps"))
    assert job.start_node("small", TOY_IS_TOO_LARGE="1").wait(60) == 3
    job.until_stepping(1)
    assert len(job.lines("lives")) == 1


def test_nodes_that_the_training_cannot_use_wait_and_take_a_lost_ones_place(other):
    job = other("--most", "2", nodes=3)
    job.until_stepping(2)
    job.until(lambda: "waits: the toy is enough for 2; it takes the place of a node that is lost" in job.said())
    taken = {life["node"] for life in job.lines("lives")}
    (spare,) = {"n0", "n1", "n2"} - taken
    # It loads its libraries anew while it waits.
    for pid in descendants(job.nodes[spare].pid):
        if b"multiprocessing.forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    job.until(lambda: "the prepared process has ended; loading anew" in job.said())
    job.kill_node(next(iter(taken)))
    job.until(lambda: spare in {life["node"] for life in job.lines("lives")})
    job.until_stepping(2)
    assert max(life["world"] for life in job.lines("lives")) == 2
