"""What the script of a job asks of Slurm when it is told to stop."""

import signal
import socket
import threading
import time

import pytest

from hardviews.errors import UserError
from hardviews.launch.slurm import batch as module
from hardviews.launch.slurm.batch import Batch, configure
from hardviews.launch.slurm.meeting import meeting_file, place_of, publish, reached
from hardviews.launch.slurm.surroundings import Surroundings, free_port

WORDS = ["--nodes", "1:2", "--requeue", "--", "--processes", "1", "--", "hardviews.cli", "pretrain"]


def batch(*words):
    return Batch(configure([*words, *WORDS]), Surroundings("12", "13", ("node1",), 1))


@pytest.fixture(autouse=True)
def not_ended(monkeypatch):
    monkeypatch.setattr(module, "_KILLED", 0.0)


@pytest.mark.parametrize(
    ("number", "worked", "state", "again"),
    [
        (signal.SIGUSR1, True, "RUNNING", True),
        (signal.SIGUSR1, False, "RUNNING", False),
        (signal.SIGTERM, False, "RUNNING", True),  # in the grace time of a preemption
        (signal.SIGTERM, True, "COMPLETING", False),  # cancelled, or queued again by Slurm
    ],
)
def test_a_job_is_queued_again_if_it_can_go_on(slurm, number, worked, state, again, capfd):
    slurm.answer("squeue", f"{state}\n{state}\n")
    batch()._requeue(number, worked)
    assert [call["words"] for call in slurm.calls("scontrol")] == ([["requeue", "12"]] if again else [])
    assert ("before its first step" in capfd.readouterr().err) == (number == signal.SIGUSR1 and not worked)


def test_a_job_that_may_not_be_queued_again_says_what_goes_on(slurm, capfd):
    one = batch()
    object.__setattr__(one.config, "requeue", False)
    one._requeue(signal.SIGUSR1, True)
    assert "The same command continues" in capfd.readouterr().err
    assert slurm.calls("scontrol") == []


def test_what_slurm_has_against_it_is_in_the_log(slurm, capfd):
    slurm.answer("scontrol", error="Requested operation is presently disabled\n", code=1)
    batch()._requeue(signal.SIGUSR1, True)
    assert "cannot be queued again (Requested operation is presently disabled)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("number", "asked"),
    [
        (signal.SIGUSR1, [["--signal=TERM", "13"]]),
        (signal.SIGUSR2, [["--signal=TERM", "13"], ["12"]]),
        (signal.SIGTERM, []),  # Slurm has told the trainers already; told twice they would not save
    ],
)
def test_trainers_are_told_once(slurm, number, asked):
    one = batch()
    one.asked.append(number)
    one._stop([], None, None)
    assert [call["words"] for call in slurm.calls("scancel")] == asked


def test_the_place_of_a_coordinator_is_found_by_the_number_of_its_job(slurm, tmp_path):
    slurm.answer("squeue", f"RUNNING|{tmp_path}\n")
    with pytest.raises(UserError, match="no coordinator that nodes could join"):
        place_of("12")
    publish(tmp_path, "12", "host:20001")
    assert place_of("12") == "host:20001"
    assert [file.name for file in tmp_path.glob("slurm-12*")] == [meeting_file(tmp_path, "12").name]
    slurm.answer("squeue", f"PENDING|{tmp_path}\n")
    with pytest.raises(UserError, match="does not run, it is PENDING"):
        place_of("12")


def test_a_coordinator_that_is_gone_has_reached_no_step():
    assert reached("127.0.0.1", free_port("1")) is None


def test_ports_are_free_and_differ_from_job_to_job():
    first = free_port("1")
    assert first == free_port("1") != free_port("2")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", first))
        taken.listen()
        assert free_port("1") != first


def test_waiting_for_the_end_is_over_when_slurm_says_so(monkeypatch):
    monkeypatch.setattr(module, "_KILLED", 60.0)
    one = batch()
    threading.Timer(0.1, lambda: one.asked.append(signal.SIGTERM)).start()
    before = time.monotonic()
    one._await_end()
    assert time.monotonic() - before < 30
