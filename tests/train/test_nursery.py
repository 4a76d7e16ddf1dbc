"""Loader workers are copies of a clean process: quick to start, holding nothing, gone with whom they work for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux to die with a parent")


@pytest.fixture
def trainer() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.train.nursing"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def read(trainer: "subprocess.Popen[str]") -> list[str]:
    assert trainer.stdout is not None
    return trainer.stdout.readline().split()


def ask(trainer: "subprocess.Popen[str]") -> list[str]:
    assert trainer.stdin is not None
    trainer.stdin.write("\n")
    trainer.stdin.flush()
    return read(trainer)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_a_worker_copies_what_was_there_before_and_holds_no_later_connection(
    trainer: "subprocess.Popen[str]",
) -> None:
    worker, parent, told, holds = read(trainer)
    assert told == "before"
    assert holds == "False"
    assert int(parent) != trainer.pid
    assert trainer.stdin is not None
    trainer.stdin.close()
    assert read(trainer) == ["left"]
    assert trainer.wait(10) == 0
    assert gone(int(worker)) and gone(int(parent))


def test_nobody_outlives_a_training_process_that_is_killed(trainer: "subprocess.Popen[str]") -> None:
    worker, parent, *_ = read(trainer)
    os.kill(trainer.pid, signal.SIGKILL)
    assert gone(int(worker)) and gone(int(parent))


def test_a_signal_to_the_whole_group_is_the_training_processs(trainer: "subprocess.Popen[str]") -> None:
    worker, parent, *_ = read(trainer)
    for pid in (worker, parent):
        os.kill(int(pid), signal.SIGTERM)
        os.kill(int(pid), signal.SIGINT)
    time.sleep(0.2)
    for _ in range(4):  # more than the loader has made ahead
        assert ask(trainer)[0] == worker
