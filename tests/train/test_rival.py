"""One job at a time trains a run: another one ends with a sentence, and a dead job's run is taken over."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hardviews.storage.store import Store
from hardviews.train import life as lives
from hardviews.train.life import Life, LifeNotes
from hardviews.train.rival import await_turn, living

SOON = 1.0  # seconds of silence, in place of 30


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
    Store(output).write(f"lives/{life.number:04d}.json", json.dumps(vars(life)).encode())


def test_a_run_is_alive_while_its_life_is_kept_up_to_date(output: str) -> None:
    assert living(output, silence=SOON) is None
    with begun(output, "one"):
        found = living(output)  # no step is taken: the first sign of life is enough
        assert found is not None and (found.job, found.number, found.end) == ("one", 1, None)
    # Without notice: its processes run on, so that only the silence tells.
    began = time.monotonic()
    assert living(output, silence=SOON) is None
    assert time.monotonic() - began >= SOON


def test_an_end_is_known_at_once(output: str) -> None:
    notes = LifeNotes(output, job="process-1")
    notes.begin(1, 0, None)
    notes.close("interrupted")
    began = time.monotonic()
    assert living(output) is None
    await_turn(output, job="process-2")
    assert time.monotonic() - began < 5
