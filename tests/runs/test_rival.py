"""One job at a time trains a run: another one ends with a sentence, and a dead job's run is taken over."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hardviews.elastic.identity import have_ended, job_name, processes
from hardviews.errors import UserError
from hardviews.runs import life as lives
from hardviews.runs.life import Displaced, Life, LifeNotes, Taken, read_lives
from hardviews.runs.rival import await_turn, living
from hardviews.storage.store import open_store

SOON = 1.5  # seconds of silence, in place of 30


@pytest.fixture(params=["folder", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "folder" else f"{request.getfixturevalue('s3').bucket()}/run"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "_EVERY", SOON / 8)


@contextmanager
def begun(output: str, job: str) -> Iterator[LifeNotes]:
    notes = LifeNotes(output, job=job)
    notes.begin(1, 0, None)
    try:
        yield notes
    finally:
        notes._stop.set()
        notes._thread.join()


def write(output: str, life: Life) -> None:
    open_store(output).write(f"lives/{life.number:04d}.json", json.dumps(vars(life)).encode())


def test_a_run_is_alive_while_its_life_is_kept_up_to_date(output: str) -> None:
    assert living(output, silence=SOON) is None
    with begun(output, "one"):
        found = living(output)  # no step is taken: the first sign of life is enough
        assert found is not None and (found.job, found.number, found.end) == ("one", 1, None)
    # Without notice: its processes run on, so that only the silence shows it.
    began = time.monotonic()
    assert living(output, silence=SOON) is None
    assert time.monotonic() - began >= SOON


def test_a_life_begun_after_the_number_was_taken_is_noticed(output: str) -> None:
    """Of two jobs one looks, the other begins its life, and only then the first one begins its own."""
    newest = await_turn(output, job="slow")
    with begun(output, "fast"):
        slow = LifeNotes(output, job="slow", after=newest)
        with pytest.raises(Taken, match="fast"):
            slow.begin(1, 0, None)


def test_an_end_is_known_at_once(output: str) -> None:
    notes = LifeNotes(output, job="process-1")
    notes.begin(1, 0, None)
    notes.close("interrupted")
    began = time.monotonic()
    assert living(output) is None
    await_turn(output, job="process-2")
    assert time.monotonic() - began < 5


def test_another_job_is_refused_while_one_trains(output: str, caplog: pytest.LogCaptureFixture) -> None:
    with begun(output, "one") as notes:
        notes.reached(7)
        with pytest.raises(UserError, match=r"is being trained by job one \(host \S+, life 1, step 7\), heard of"):
            await_turn(output, job="two", silence=SOON)
        await_turn(output, job="one", silence=SOON)  # the job's own next life
    assert "may still be trained by job one" in caplog.text


def test_a_dead_job_is_followed_after_its_silence(output: str) -> None:
    with begun(output, "one"):
        pass
    began = time.monotonic()
    await_turn(output, job="two", silence=SOON)
    assert time.monotonic() - began >= SOON


def test_a_job_whose_processes_are_gone_is_followed_at_once(output: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    text = processes(gone.pid)
    assert text and not have_ended(text)
    gone.kill()
    gone.wait()
    assert have_ended(text) and not have_ended(f"{text} {processes(os.getpid()).split()[1]}")
    # An id that another process has by now is not that process.
    assert have_ended(f"{text.split()[0]} {os.getpid()}:1") and not have_ended("elsewhere/1/2 1:1")
    write(output, Life(1, 1, 0, 0.0, "host", 3, 0.0, job="one", processes=text))
    began = time.monotonic()
    await_turn(output, job="two")
    assert living(output) is None
    assert time.monotonic() - began < 10


def test_a_clock_that_is_wrong_changes_nothing(output: str) -> None:
    """The life is kept up to date by a machine whose clock stands still in the past."""
    life, stop = Life(1, 1, 0, 100.0, "host", 3, 100.0, job="one"), threading.Event()

    def keep() -> None:
        number = 3
        while not stop.wait(SOON / 8):
            number += 1
            write(output, replace(life, reached=number))

    write(output, life)
    thread = threading.Thread(target=keep)
    thread.start()
    try:
        with pytest.raises(UserError, match="is being trained by job one"):
            await_turn(output, job="two", silence=SOON)
    finally:
        stop.set()
        thread.join()


def test_a_job_that_was_asked_to_leave_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = str(tmp_path)
    leaving = LifeNotes(output, leaving=lambda: True, job="one")
    leaving.begin(1, 0, None)
    while not read_lives(output)[-1].leaving:
        time.sleep(0.01)
    end = threading.Timer(1.5 * SOON, lambda: leaving.close("interrupted"))
    end.start()
    await_turn(output, job="two", silence=SOON)
    end.join()
    assert read_lives(output)[-1].end == "interrupted"
    assert "the other job is over" in caplog.text


def test_between_two_lives_a_job_is_not_over(output: str) -> None:
    """A node joins: the life ends, and the job's next one begins a moment later."""
    notes = LifeNotes(output, job="one")
    notes.begin(1, 0, None)
    notes.close("evicted")
    following = threading.Timer(SOON / 2, lambda: LifeNotes(output, job="one").begin(2, 0, None))
    following.start()
    with pytest.raises(UserError, match=r"job one \(host \S+, life 2"):
        await_turn(output, job="two", silence=SOON)
    following.join()


def test_of_two_jobs_at_once_the_faster_one_has_the_number(output: str) -> None:
    one, two = LifeNotes(output, job="one"), LifeNotes(output, job="two")
    barrier, taken = threading.Barrier(2), []

    def begin(notes: LifeNotes) -> None:
        barrier.wait()
        try:
            notes.begin(1, 0, None)
        except Taken:
            taken.append(notes)

    threads = [threading.Thread(target=begin, args=(notes,)) for notes in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (loser,) = taken
    winner = two if loser is one else one
    assert [life.job for life in read_lives(output)] == [winner.job]
    loser.close("failed")  # it never began
    winner.close("finished")
    assert [(life.job, life.end) for life in read_lives(output)] == [(winner.job, "finished")]


def test_a_life_that_another_job_has_followed_ends_with_a_sentence(output: str) -> None:
    with begun(output, "one") as old, begun(output, "two"):
        sentence = r"Another job, two on \S+, trains the run in .* since \d{4}-.*; this one ends\. Give each job"
        with pytest.raises(Displaced, match=sentence):
            old.check_newest()
    with begun(output, "two") as old, begun(output, "two"), pytest.raises(lives.Superseded, match="life 4") as caught:
        old.check_newest()
    assert not isinstance(caught.value, Displaced)


def test_without_conditional_writes_one_of_two_stands(tmp_path: Path) -> None:
    """The store let both take the number: the job that wrote the file last has it, and the other one leaves it."""
    output = str(tmp_path)
    with begun(output, "one") as old:
        while old.displaced is None:
            write(output, replace(read_lives(output)[0], job="two"))
            time.sleep(0.01)
        write(output, replace(read_lives(output)[0], job="two"))
        old.close("failed")
    assert [(life.job, life.end) for life in read_lives(output)] == [("two", None)]


def test_a_life_that_took_no_step_is_taken_back(output: str) -> None:
    notes = LifeNotes(output, job="one")
    notes.begin(1, 0, None)
    notes.withdraw()
    notes.close("failed")
    assert read_lives(output) == [] and not os.path.exists(output)


def test_files_of_older_and_newer_versions_are_read(tmp_path: Path) -> None:
    old = {"number": 1, "world": 1, "resumed": 0, "began": 1.0, "host": "h", "reached": 2, "updated": 2.0}
    open_store(str(tmp_path)).write("lives/0001.json", json.dumps(old).encode())
    open_store(str(tmp_path)).write("lives/0002.json", json.dumps(old | {"number": 2, "colour": "red"}).encode())
    open_store(str(tmp_path)).write("lives/0003.json", b"{")
    assert [(life.number, life.job) for life in read_lives(str(tmp_path))] == [(1, ""), (2, "")]
    began = time.monotonic()
    await_turn(str(tmp_path), job="two", silence=SOON)  # a damaged file is a life of which nothing is known
    assert time.monotonic() - began >= SOON


def test_jobs_have_names_of_their_own() -> None:
    hand = job_name({})
    assert hand == job_name({"TORCHELASTIC_RUN_ID": "left-over"}) and str(os.getpid()) in hand
    ranks = {"RANK": "0", "WORLD_SIZE": "2"}
    assert job_name(ranks | {"TORCHELASTIC_RUN_ID": "mine", "HARDVIEWS_ROUND": "3"}) == "mine"
    first = ranks | {"TORCHELASTIC_RUN_ID": "100", "TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_ADDR": "a"}
    assert job_name(first | {"MASTER_PORT": "1"}) != job_name(first | {"MASTER_PORT": "2"})
    none = ranks | {"TORCHELASTIC_RUN_ID": "none"}
    assert job_name(none) == job_name(none | {"MASTER_PORT": "4"}) != hand
