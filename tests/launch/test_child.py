"""Processes that the launcher starts again: how often, and with which environment."""

import os
import signal
import sys
import time
from collections.abc import Callable

import pytest

from hardviews.elastic.coordinator import FAILED
from hardviews.launch import child as module
from hardviews.launch.child import BEFORE_A_STEP, BEFORE_JOINING, Child


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a module with this text, again and again without a pause."""
    monkeypatch.setattr(module, "_QUICK", 0.0)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made: list[Child] = []

    def begin(text: str, silent: float = 0.0, trains: bool = True) -> Child:
        (tmp_path / "toy_child.py").write_text("import os, time\nsign = int(os.environ['HARDVIEWS_SIGNS'])\n" + text)
        made.append(Child("node-0", ["toy_child"], {}, "", silent, trains))
        return made[-1]

    yield begin
    for one in made:
        one.end(0)


def until(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_cannot_begin_is_given_up_with_its_last_words(start, capfd):
    one = start("raise ImportError('no module for this')")
    until(lambda: one.look((0,)) is not None)
    assert one.code == FAILED
    assert one.given_up == (
        f"node-0 ended with exit code 1, the {BEFORE_JOINING}th time in a row before it could begin: "
        "ImportError: no module for this"
    )
    assert capfd.readouterr().err.count("starting it again") == BEFORE_JOINING - 1


def test_one_that_joins_and_takes_no_step_is_given_up_later(start, capfd):
    one = start("os.write(sign, b'j')\nraise SystemExit(9)")
    until(lambda: one.look((0,)) is not None)
    assert one.given_up.startswith(f"node-0 ended with exit code 9, the {BEFORE_A_STEP}th time in a row without a step")


def test_one_that_takes_steps_is_started_again_as_often_as_it_dies(start, tmp_path, capfd):
    lives = tmp_path / "lives"
    one = start(f"open({str(lives)!r}, 'a').write('.')\nos.write(sign, b'js')\nraise SystemExit(9)")
    until(lambda: one.look((0,)) is not None or (lives.exists() and len(lives.read_text()) > BEFORE_A_STEP + 2))
    assert one.code is None


def test_one_that_is_stopped_is_ended_and_started_again(start, capfd):
    one = start("time.sleep(600)", silent=0.5)
    first = one._process.pid
    os.kill(first, signal.SIGSTOP)
    until(lambda: one.look((0,)) is not None or one._process.pid != first)
    assert one.code is None
    assert "node-0 does not run for" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["random", "types", "platform", "signal", "threading", "socket", "hardviews"])
def test_a_file_of_the_users_stands_in_for_no_module(name, tmp_path, monkeypatch, capfd):
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong module')")
    monkeypatch.chdir(tmp_path)
    one = Child("node-0", ["hardviews.elastic.agent", "--help"], {}, "", 0.0)
    try:
        until(lambda: one.look((0, 1)) is not None)
        assert one.code == 0, capfd.readouterr().err
    finally:
        one.end(0)


def test_the_file_would_stand_in_for_it_otherwise(tmp_path):
    """The setting is needed: it prevents this."""
    import subprocess

    (tmp_path / "random.py").write_text("raise RuntimeError('the wrong module')")
    words = [sys.executable, "-m", "hardviews.elastic.agent", "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "the wrong module" in done.stderr
