"""Two jobs with one output, as real processes: exactly one goes on, and the other ends with a sentence."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hardviews.data.pack_command import Packing
from hardviews.elastic.worker import EVICTED
from hardviews.runs.life import read_lives
from tests.elastic.processes import descendants

HARDVIEWS = str(Path(sys.executable).parent / "hardviews")
PRETRAIN = ("pretrain", "digits", "--training.epochs", "2000", "--training.checkpoint-seconds", "5")
LAUNCH = ("launch", "--nnodes", "1:1")
REFUSED = re.compile(
    r"The run in \S+ is being trained by job \S+ \(host \S+, life \d+, step \d+\), heard of \d+ s ago\. Wait for "
    r"|Another job, \S+ on \S+, trains the run in \S+ since .*; this one ends\. Give each job an --output of its own"
)

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


class Jobs:
    """Jobs on one output, each with a log of its own."""

    def __init__(self, folder: Path, output: str) -> None:
        self.folder, self.output = folder, output
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *before: str) -> subprocess.Popen[bytes]:
        number = len(self.started)
        where = ("--data", str(self.folder / "data"), "--output", self.output)
        project = ("--project", str(self.folder / "project"))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with self.log(number).open("wb") as log:
            words = [HARDVIEWS, *before, *PRETRAIN, *where, *project]
            job = subprocess.Popen(words, stderr=log, env=environment, start_new_session=True)
        self.started.append(job)
        return job

    def log(self, number: int) -> Path:
        return self.folder / f"{number}.log"

    def said(self, job: subprocess.Popen[bytes]) -> str:
        return self.log(self.started.index(job)).read_text()

    def until_step(self, job: subprocess.Popen[bytes], step: int, life: int = 1) -> None:
        while not any(found.number >= life and found.reached >= step for found in read_lives(self.output)):
            assert job.poll() is None, self.said(job)
            time.sleep(0.2)

    def close(self) -> None:
        for job in self.started:
            for pid in reversed(descendants(job.pid)):
                with suppress(ProcessLookupError):  # ended meanwhile
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGKILL)
            job.wait(20)


@pytest.fixture(params=["folder", "s3"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jobs]:
    Packing("digits", str(tmp_path / "data")).run()
    output = str(tmp_path / "run")
    if request.param == "s3":
        output = f"{request.getfixturevalue('s3').bucket()}/run"
    made = Jobs(tmp_path, output)
    yield made
    made.close()


@pytest.mark.parametrize("before", [(), LAUNCH], ids=["by hand", "launched"])
def test_of_two_jobs_started_at_once_one_goes_on(jobs: Jobs, before: tuple[str, ...]) -> None:
    both = [jobs.start(*before), jobs.start(*before)]
    while all(job.poll() is None for job in both):
        time.sleep(0.2)
    loser, winner = sorted(both, key=lambda job: job.poll() is None)
    assert loser.returncode == 2, jobs.said(loser)
    assert REFUSED.search(jobs.said(loser)) and "Traceback" not in jobs.said(loser)
    (number, reached) = [(life.number, life.reached) for life in read_lives(jobs.output)][-1]
    jobs.until_step(winner, reached + 1, number)
    winner.send_signal(signal.SIGTERM)
    assert winner.wait(120) == (128 + signal.SIGTERM if before else EVICTED), jobs.said(winner)
    assert "saved at step" in jobs.said(winner)
    assert len({life.job for life in read_lives(jobs.output)}) == 1


def test_a_job_that_was_killed_is_followed(jobs: Jobs) -> None:
    first = jobs.start(*LAUNCH)
    jobs.until_step(first, 1)
    for pid in descendants(first.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    first.wait(20)
    began, number = time.monotonic(), len(read_lives(jobs.output))
    second = jobs.start(*LAUNCH)
    jobs.until_step(second, 1, number + 1)
    print(f"followed after {time.monotonic() - began:.0f} s")
    assert "Waiting until it is silent" not in jobs.said(second)  # its processes are known to be gone


def test_a_job_that_stood_still_ends_once_another_has_followed(jobs: Jobs) -> None:
    first = jobs.start()
    jobs.until_step(first, 1)
    frozen = descendants(first.pid)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    second = jobs.start()
    jobs.until_step(second, 1, 2)
    assert "may still be trained by" in jobs.said(second)
    for pid in reversed(frozen):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert first.wait(120) == 2, jobs.said(first)
    assert REFUSED.search(jobs.said(first))
    last = read_lives(jobs.output)[-1]
    jobs.until_step(second, last.reached + 1, last.number)
    assert second.poll() is None
