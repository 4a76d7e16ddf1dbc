"""A life's notes go on when the store is back, and its end is written."""

import json
import threading
import time
from pathlib import Path

import pytest
import torch

from hardviews.runs import life
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.life import LifeNotes, read_lives
from hardviews.runs.saver import Saver
from hardviews.storage import s3
from hardviews.storage.local_store import LocalStore
from tests.fake_s3 import SILENT, FakeS3, Refusal
from tests.proxy import wait_until
from tests.runs.test_saver import state

THROTTLED = Refusal(503, "SlowDown", "Please reduce your request rate.")


@pytest.fixture
def notes(fake_s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> LifeNotes:
    monkeypatch.setattr(life, "_EVERY", 0.05)
    monkeypatch.setattr(life, "_LAST", 0.3)
    notes = LifeNotes(f"{fake_s3.url}/run", 20)
    notes.begin(1, 0, None)
    return notes


def reached(fake: FakeS3) -> int:
    return int(json.loads(fake.files["run/lives/0001.json"])["reached"])


@pytest.mark.parametrize("fault", [THROTTLED, SILENT, Refusal(500)])
def test_notes_go_on_when_the_store_is_back(
    notes: LifeNotes,
    fake_s3: FakeS3,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Refusal,
) -> None:
    monkeypatch.setattr(s3, "_ANSWER", 0.5)
    notes.reached(1)
    wait_until(lambda: reached(fake_s3) == 1)
    asked = len(fake_s3.asked)
    fake_s3.refuse("PutObject", by=fault)
    notes.reached(2)
    wait_until(lambda: "could not be written" in caplog.text)
    wait_until(lambda: len(fake_s3.asked) > asked + 2)
    assert caplog.text.count("could not be written") == 1
    fake_s3.rule = lambda *_: None
    notes.reached(3)
    wait_until(lambda: reached(fake_s3) == 3)
    notes.close("evicted", 10)
    (found,) = read_lives(f"{fake_s3.url}/run")
    assert found.end == "evicted" and found.reached == 3


def test_the_end_is_written_also_while_a_note_hangs(notes: LifeNotes, fake_s3: FakeS3) -> None:
    hanging = threading.Event()

    def first_hangs(operation: str, key: str, headers: dict[str, str]) -> Refusal | None:
        if operation == "PutObject" and not hanging.is_set():
            hanging.set()
            return SILENT
        return None

    fake_s3.rule = first_hangs
    notes.reached(7)
    assert hanging.wait(30)
    notes.close("evicted", 20)
    (found,) = read_lives(f"{fake_s3.url}/run")
    assert found.end == "evicted" and found.reached == 7


def test_a_mistake_in_a_note_does_not_end_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "_EVERY", 0.02)
    notes = LifeNotes(str(tmp_path))
    notes.begin(1, 0, None)
    write = LocalStore.write
    with monkeypatch.context() as patch:
        failed = threading.Event()
        patch.setattr(LocalStore, "write", lambda *_: (failed.set(), 1 / 0))
        notes.reached(1)
        assert failed.wait(20)
        time.sleep(0.05)
    assert LocalStore.write is write
    notes.reached(2)
    wait_until(lambda: read_lives(str(tmp_path))[0].reached == 2)
    notes.close("finished")


def test_a_save_looks_for_a_newer_life_as_patiently_as_it_writes(
    notes: LifeNotes,
    fake_s3: FakeS3,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The notes are not waited for; a checkpoint is."""
    asked = threading.Event()

    def throttles(operation: str, key: str, headers: dict[str, str]) -> Refusal | None:
        if operation == "ListObjectsV2":
            asked.set()
            return THROTTLED
        return None

    fake_s3.rule = throttles
    saver = Saver(Checkpoints(f"{fake_s3.url}/run", patience=60), None, None, active=True, check=notes.check_newest)
    assert saver.save(state(1, torch.zeros(3)))
    assert asked.wait(30)
    time.sleep(1.0)  # longer than a note waits
    assert saver.busy and saver.failures == 0
    fake_s3.rule = lambda *_: None
    saver.close(60)
    assert saver.saved_step == 1 and "could not be saved" not in caplog.text
    notes.close("finished", 10)
