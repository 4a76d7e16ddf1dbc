"""Runs of a comparison: in order, some at a time, and none is left behind."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@dataclass(frozen=True)
class Job:
    name: str
    code: str = "pass"


def start(job: Job) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", job.code])


@pytest.fixture
def run_all(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from comparing.queue import run_all

    return run_all


def test_all_are_run_and_those_that_cannot_are_left_out(run_all, capsys) -> None:  # type: ignore[no-untyped-def]
    done = []
    jobs = [Job(name) for name in "abcd"]
    run_all(jobs, lambda job: None if job.name == "b" else start(job), lambda job, _: done.append(job.name), 2, 10)
    assert sorted(done) == ["a", "c", "d"]
    assert "about" in capsys.readouterr().out
    assert len(jobs) == 4  # the caller's list is as it was


@pytest.mark.parametrize(("minutes", "failing"), [(10, True), (0.02, False)])
def test_whatever_ends_it_no_run_is_left_behind(run_all, minutes: float, failing: bool) -> None:  # type: ignore[no-untyped-def]
    begun = []

    def begin(job: Job) -> "subprocess.Popen[bytes]":
        begun.append(start(job))
        return begun[-1]

    def done(job: Job, process: "subprocess.Popen[bytes]") -> None:
        raise SystemExit(f"{job.name} failed")

    waits = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); signal.pause()"
    jobs = [Job("waits", waits), Job("fails" if failing else "waits too", "pass" if failing else waits)]
    if failing:
        with pytest.raises(SystemExit, match="fails failed"):
            run_all(jobs, begin, done, 2, minutes)
    else:
        run_all(jobs, begin, done, 2, minutes)
    assert len(begun) == 2
    assert all(process.poll() is not None for process in begun)
