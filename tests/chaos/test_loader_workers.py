"""Loader workers of a real training process that are harmed, or that have hardly any shared memory."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardviews.data.pack_command import Packing
from hardviews.elastic.worker import EVICTED
from tests.elastic.processes import descendants, parent
from tests.train.runs import rows

HARDVIEWS = str(Path(sys.executable).parent / "hardviews")
SETTINGS = "--training.batch 32 --training.group 8 --method.view.size 16 --training.log-steps 1 --precision.device cpu"

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("digits"))
    Packing("digits", folder).run()
    return folder


def words(data: str, output: Path, workers: int = 2, epochs: int = 1, launch: bool = False) -> list[str]:
    where = ["--data", data, "--output", str(output), "--project", str(output.parent / "project")]
    settings = [*SETTINGS.split(), "--loader.workers", str(workers), "--training.epochs", str(epochs)]
    before = ["launch", "--nnodes", "1:1"] if launch else []
    return [HARDVIEWS, *before, "pretrain", "digits", *where, *settings]


def environment() -> dict[str, str]:
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    variables.pop("MLFLOW_TRACKING_URI", None)
    return variables


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """The history of a run that nothing harms, without workers."""
    output = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(words(data, output, workers=0), check=True, capture_output=True, timeout=600, env=environment())
    return rows(output)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    begun: list[subprocess.Popen[str]] = []

    def starter(command: list[str], shm: str = "") -> "subprocess.Popen[str]":
        """Start a command, with a /dev/shm of its own if options for its mount are given."""
        if shm:
            inner = f'mount -t tmpfs -o {shm} tmpfs /dev/shm && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", inner, "sh", *command]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
        )
        begun.append(process)
        return process

    yield starter
    for process in begun:
        for pid in reversed(descendants(process.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(20)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


@needs_root
@pytest.mark.parametrize("launch", [False, True])
def test_shared_memory_of_a_megabyte_is_enough(data, whole, tmp_path, start, launch):
    process = start(words(data, tmp_path / "run", launch=launch), "size=1m")
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    found = rows(tmp_path / "run")
    # An agent gives its processes another number of threads, which changes the last digits.
    assert len(found) == len(whole) and (launch or found == whole)


@needs_root
@pytest.mark.parametrize("launch", [False, True])
def test_without_locks_it_ends_before_anything_is_written(data, tmp_path, start, launch):
    process = start(words(data, tmp_path / "run", launch=launch), "ro")
    _, said = process.communicate(timeout=600)
    assert process.returncode == 2, said
    assert "/dev/shm, where processes keep their locks, cannot be written (Read-only file system)" in said
    assert "Traceback" not in said and not (tmp_path / "run").exists()


def workers(process: "subprocess.Popen[str]") -> list[int]:
    """The loader workers: forked from the copy of the training process."""
    found = []
    for pid in descendants(process.pid)[1:]:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if parent(parent(pid)) == process.pid and b"resource_tracker" not in command:
                found.append(pid)
        except OSError:
            continue
    return found


def reached(output: Path) -> int:
    history = output / "history.jsonl"
    return len(history.read_text().splitlines()) if history.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS, signal.SIGSTOP])
def test_harmed_workers_change_nothing(data, whole, tmp_path, start, number):
    process = start(words(data, tmp_path / "run"))
    while reached(tmp_path / "run") < 5:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    for pid in workers(process)[-1:]:
        os.kill(pid, number)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert "a loader worker is lost, its batches are made again" in said and "Traceback" not in said
    assert rows(tmp_path / "run") == whole


def test_it_can_leave_while_a_worker_stands_still(data, tmp_path, start):
    process = start(words(data, tmp_path / "run", epochs=500))
    while reached(tmp_path / "run") < 3:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    for pid in workers(process):
        os.kill(pid, signal.SIGSTOP)
    process.terminate()
    _, said = process.communicate(timeout=300)
    assert process.returncode == EVICTED and "asked to leave: saved at step" in said, said


def test_workers_are_found_again_when_the_process_they_are_copies_of_is_killed(data, whole, tmp_path, start):
    process = start(words(data, tmp_path / "run"))
    while reached(tmp_path / "run") < 5:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.kill(parent(workers(process)[0]), signal.SIGKILL)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0 and "Traceback" not in said, said
    assert rows(tmp_path / "run") == whole
