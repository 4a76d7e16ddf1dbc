"""Sockets of multiprocessing under a long TMPDIR."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys
from multiprocessing import connection, get_context, util
from hardviews.elastic.sockets import LONGEST, use_short_folder

def say():
    # A process of a process, started by either method, has the folder too.
    print("child", util.get_temp_dir())
    sys.stdout.flush()

if __name__ == "__main__":
    if sys.argv[1] == "short":
        use_short_folder()
        use_short_folder()
    listener = connection.Listener(family="AF_UNIX")
    print("path", listener.address)
    listener.close()
    one = get_context("forkserver").Process(target=say)
    one.start()
    one.join()
"""


def run(folder: Path, temporary: Path, how: str) -> subprocess.CompletedProcess[str]:
    program = folder / "program.py"
    program.write_text(CODE)
    temporary.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, program, how],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def said(done: subprocess.CompletedProcess[str], name: str) -> str:
    assert done.returncode == 0, done.stderr
    return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith(name))


@pytest.mark.parametrize("length", [30, 80, 120, 200])
def test_sockets_work_whatever_the_length_of_tmpdir(tmp_path, length):
    long = tmp_path / ("scratch-" * 30)[: max(1, length - len(str(tmp_path)))]
    done = run(tmp_path, long, "short")
    path = said(done, "path")
    assert len(path) <= 107
    assert said(done, "child") == os.path.dirname(path)
    assert not os.path.exists(os.path.dirname(path)), "the folder is left"
    if length >= 80:
        assert not path.startswith(str(long))


def test_without_it_a_long_tmpdir_fails(tmp_path):
    assert "AF_UNIX path too long" in run(tmp_path, tmp_path / ("scratch-" * 20), "long").stderr


def test_a_short_tmpdir_is_used_as_it_is(tmp_path):
    short = Path("/tmp") / f"t{os.getpid()}"
    try:
        assert said(run(tmp_path, short, "short"), "path").startswith(str(short))
    finally:
        short.rmdir()
