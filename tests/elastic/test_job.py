"""Whole jobs as local processes: they start as one, end as one, and leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TORCHX = Path(sys.executable).parent / "torchx"
LISTEN = "0A"  # state in /proc/net/tcp

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc"),
]


class Job:
    """One run of the toy job under `torchx run -s local_cwd`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.marker = f"toy-{os.getpid()}-{time.monotonic_ns()}"
        command = [TORCHX, "run", "-s", "local_cwd", "tests/elastic/toyjob.py", "--", folder, *options]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HARDVIEWS_", "PET_"))}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), cwd=ROOT, stdout=log, stderr=log, env=environment | {"MARKER": self.marker}
            )

    def notes(self) -> list[dict]:
        return [json.loads(file.read_text()) for file in sorted(self.folder.glob("*.json"))]

    def processes(self) -> list[int]:
        """Every process that inherited this job's marker, whoever its parent is by now."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if self.marker.encode() in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue  # ended meanwhile
        return found

    def listening(self) -> list[str]:
        """Local addresses, in the kernel's hexadecimal, that processes of the job listen on."""
        inodes = {}
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN:
                    inodes[f"socket:[{fields[9]}]"] = fields[1].split(":")[0]
        found = []
        for pid in self.processes():
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    link = str(descriptor.readlink())
                except OSError:
                    continue
                if link in inodes:
                    found.append(inodes[link])
        return found

    def output(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs = []

    def begin(*options: str) -> Job:
        jobs.append(Job(tmp_path, *options))
        return jobs[-1]

    yield begin
    for job in jobs:
        for pid in job.processes():
            os.kill(pid, signal.SIGKILL)


def eventually(what: Callable[[], bool], job: Job, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, job.output()
        time.sleep(0.1)


def test_two_trainers_are_one_job_from_the_start_and_listen_on_loopback_alone(start):
    job = start("--steps", "30")
    eventually(lambda: len(job.notes()) == 2, job)
    addresses = job.listening()
    assert job.process.wait(60) == 0, job.output()
    first, second = job.notes()
    assert {first["rank"], second["rank"]} == {0, 1}
    assert first["world"] == second["world"] == first["sum"] == 2
    assert first["restarts"] == second["restarts"] == "0"
    assert int(first["threads"]) == max(1, len(os.sched_getaffinity(0)) // 2)
    # The coordinator's store, rank 0's store, and gloo's; ::ffff:127.0.0.1 is loopback spelled for IPv6.
    assert len(addresses) >= 2
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert job.processes() == []


def test_a_mistake_of_the_user_ends_the_job_at_once_with_its_paragraph(start):
    job = start("--fail-user")
    assert job.process.wait(60) != 0
    assert "the job failed: The data is not there. Put it there." in job.output()
    assert "Traceback" not in job.output(), job.output()
    assert {note["restarts"] for note in job.notes()} == {"0"}
    assert job.processes() == []


def test_an_interrupt_leaves_no_process_behind(start):
    job = start("--steps", "2000")
    eventually(lambda: len(job.notes()) == 2, job)
    job.process.send_signal(signal.SIGINT)
    assert job.process.wait(30) == 128 + signal.SIGINT
    # The launcher's own; a toy whose peer was stopped a moment earlier may print one after its name.
    assert not any(line.startswith("Traceback") for line in job.output().splitlines()), job.output()
    eventually(lambda: job.processes() == [], job, seconds=5)


def test_a_killed_agent_takes_its_worker_and_the_other_goes_on_until_the_launcher_is_killed(start):
    job = start("--steps", "2000")
    eventually(lambda: len(job.notes()) == 2, job)
    leader = next(note for note in job.notes() if note["rank"] == 0)
    os.kill(leader["agent"], signal.SIGKILL)
    eventually(lambda: leader["pid"] not in job.processes(), job, seconds=5)
    eventually(lambda: len(job.notes()) == 3, job)
    assert [note["sum"] for note in job.notes() if note["world"] == 1] == [1]
    job.process.kill()
    eventually(lambda: job.processes() == [], job, seconds=20)
