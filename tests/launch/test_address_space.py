"""A limit of the address space that does not hold the libraries is a sentence."""

import subprocess
import sys

import pytest

from hardviews.launch.address_space import LEAST

CHECK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), resource.RLIM_INFINITY))
from hardviews.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize("command", sorted(LEAST))
def test_a_small_address_space_is_refused_before_libraries_are_loaded(command, tmp_path):
    words = [sys.executable, "-c", CHECK, str(LEAST[command] - 1), command, "digits"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("hardviews: The address space of a process is limited to ")
    assert "ulimit -v unlimited" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_other_commands_and_a_larger_space_are_not(tmp_path):
    for size, words in ((500_000_000, ["--help"]), (20_000_000_000, ["pack", "--help"])):
        done = subprocess.run(
            [sys.executable, "-c", CHECK, str(size), *words], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_a_job_of_this_machine_is_refused_too(monkeypatch):
    from hardviews.launch.command_check import Job, check

    monkeypatch.setattr("resource.getrlimit", lambda _: (3_000_000_000, 3_000_000_000))
    words = ["pretrain", "smoke", "--data", "s3://b/d", "--output", "s3://b/o"]
    (message,) = check(Job(words, here=True))[0]
    assert "limited to 3.0 GB here (ulimit -v)" in message
    assert check(Job(words))[0] == []  # the pods have limits of their own
