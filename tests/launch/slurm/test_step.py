"""A trainer's step: what is started again, and what is an end."""

import os
import signal
import sys
import time

import pytest

from hardviews.elastic.coordinator import FAILED
from hardviews.elastic.worker import MISTAKE
from hardviews.launch.slurm import step as module
from hardviews.launch.slurm.step import DEATHS, Step


def step(code, folder):
    """A program that counts its starts, and ends with a code."""
    program = f"import sys; open({str(folder / 'starts')!r}, 'a').write('x'); sys.exit({code})"
    return Step("trainer 0 on node1", [sys.executable, "-S", "-c", program], os.environ)


def ended(one):
    deadline = time.monotonic() + 60
    while (code := one.look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return code


@pytest.mark.parametrize("code", [MISTAKE, FAILED, 128 + signal.SIGTERM])
def test_an_end_is_an_end(code, tmp_path):
    assert ended(step(code, tmp_path)) == code
    assert (tmp_path / "starts").read_text() == "x"


def test_what_dies_is_started_again_and_given_up_in_the_end(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(module, "_QUICK", 0.0)  # no delay
    assert ended(step(137, tmp_path)) == FAILED
    assert (tmp_path / "starts").read_text() == "x" * DEATHS
    told = capfd.readouterr().err
    assert told.count("was killed by SIGKILL; starting it again") == DEATHS - 1
    assert f"has died {DEATHS} times in a row; the job goes on without it" in told


def test_what_ends_well_is_started_again_only_if_the_job_goes_on(tmp_path):
    one = step(0, tmp_path)
    one.end(30)
    assert one.look() is None
    assert one._again > time.monotonic() + module.LINGER / 2
