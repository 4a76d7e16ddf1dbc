import fcntl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hardviews.storage import scratch as module
from hardviews.storage.scratch import scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_there_and_gone_afterwards(temporary):
    with scratch() as folder:
        (folder / "a").write_text("b")
        with scratch() as other:
            assert other != folder and (folder / "a").read_text() == "b"
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed(temporary):
    code = (
        "import os, tempfile\n"
        f"tempfile.tempdir = {str(temporary)!r}\n"
        "from hardviews.storage.scratch import scratch\n"
        "with scratch() as folder:\n"
        "    (folder / 'a').write_text('b')\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert len(list(temporary.rglob("a"))) == 1
    with scratch() as folder:
        assert list(folder.iterdir()) == [] and list(temporary.rglob("a")) == []
    assert list(temporary.iterdir()) == []


def test_a_folder_taken_for_abandoned_before_it_is_locked_is_made_again(temporary, monkeypatch):
    """Another process may look for abandoned folders between the making of a lock's file and its locking."""
    flock, taken = fcntl.flock, []

    def late(file, operation):
        if operation == fcntl.LOCK_EX and not taken:
            taken.extend(temporary.iterdir())
            module._remove_if_abandoned(*taken)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch() as folder:
        assert taken and not taken[0].exists()
        assert folder.is_dir() and folder.parent != taken[0]
    assert list(temporary.iterdir()) == []
