"""Saves beside the training write the state at their beginning, and a store that is away stops nothing."""

import time
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch

from hardviews.elastic.worker import EVICTED
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.life import LifeNotes
from hardviews.runs.saver import Saver, State
from hardviews.storage.local_store import LocalStore
from tests.runs.test_checkpoint import PROGRESS, RANGES
from tests.train.runs import rows, simclr, train, weights


def state(step: int, tensor: torch.Tensor) -> State:
    return State({"weight": tensor}, replace(PROGRESS, step=step), RANGES, lambda: b"")


def held(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Let no file be written before the event is set."""
    write, free = LocalStore.write, Event()
    monkeypatch.setattr(LocalStore, "write", lambda *words: (free.wait(20), write(*words))[1])
    return free


def test_steps_go_on_and_change_nothing_of_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = held(monkeypatch)
    saver = Saver(Checkpoints(str(tmp_path)), None, None, active=True)
    weight = torch.zeros(1000)
    assert saver.save(state(1, weight)) and saver.busy
    weight += 7
    free.set()
    saver.close(10)
    assert saver.saved_step == 1 and saver.metrics()["checkpoint_failures"] == 0
    found = Checkpoints(str(tmp_path)).latest()
    assert found is not None and torch.equal(found.tensors["weight"], torch.zeros(1000))
    # The next one uses the same buffers, and does so when the one before is done.
    assert saver.save(state(2, weight)) and saver.save(state(3, weight + 1))
    saver.close(10)
    found = Checkpoints(str(tmp_path)).latest()
    assert found is not None and found.progress.step == 3 and torch.equal(found.tensors["weight"], weight + 1)


def test_the_clock_waits_for_the_save_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = held(monkeypatch)
    saver = Saver(Checkpoints(str(tmp_path)), 0.5, None, active=True)
    assert not saver.due()
    time.sleep(0.51)
    assert saver.due()
    saver.save(state(1, torch.zeros(3)))
    time.sleep(0.6)
    assert saver.busy and not saver.due()
    free.set()
    saver.close(10)
    assert saver.due()
    assert not Saver(Checkpoints(str(tmp_path)), None, None, active=True).due()
    assert not Saver(Checkpoints(str(tmp_path)), 0.0, None, active=False).due()


def test_a_step_that_is_saved_already_is_not_written_again(tmp_path: Path) -> None:
    saver = Saver(Checkpoints(str(tmp_path)), None, 5, active=True)
    assert not saver.save(state(5, torch.zeros(3))) and saver.finish(state(5, torch.zeros(3)), 1.0)
    assert not list(tmp_path.iterdir())


def test_what_a_store_does_not_take_is_reported_and_tried_again(s3, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(f"{s3.bucket()}/run", patience=0.2)
    saver = Saver(checkpoints, None, None, active=True)
    s3.stop()
    assert saver.save(state(1, torch.zeros(3)))
    saver.close(20)
    assert saver.saved_step is None and saver.metrics()["checkpoint_failures"] == 1
    assert "step 1 could not be saved" in caplog.text
    assert not saver.finish(state(2, torch.zeros(3)), 1.0)
    s3.start()
    assert saver.finish(state(3, torch.zeros(3)), 20.0) and saver.saved_step == 3
    found = checkpoints.patient(20).latest()
    assert found is not None and found.progress.step == 3


def test_saves_do_not_change_what_is_trained(data: str, untracked: Path) -> None:
    never = train(simclr(1, checkpoint_steps=0, checkpoint_seconds=0.0), data, untracked / "never")
    always = train(simclr(1, checkpoint_steps=0, checkpoint_seconds=1e-6), data, untracked / "always")
    assert weights(always) == weights(never) and rows(always) == rows(never)
    assert Checkpoints(str(never)).names() == ["step-00000005"]
    assert len(Checkpoints(str(always)).names()) == 2


def test_a_life_that_another_has_followed_writes_nothing_more(tmp_path: Path) -> None:
    """Cut off from its job but not from the store, it trains on until it looks; not even a save under way counts."""
    run = str(tmp_path)
    old, other = LifeNotes(run), LifeNotes(run)
    old.begin(1, 0, None)
    looks = iter(range(4))

    def check(patience: float | None) -> None:
        if next(looks) == 3:  # the second save is written and not yet committed
            # Both had found no life before them: the number of this one is taken, so it takes the next.
            other.begin(1, 1, None)
        old.check_newest(patience)

    saver = Saver(Checkpoints(run), None, None, active=True, check=check)
    assert saver.finish(state(1, torch.zeros(3)), 10.0)
    assert saver.save(state(2, torch.zeros(3)))
    saver.close(10)
    assert other.number == 2 and saver.superseded and not saver.due()
    assert not saver.save(state(3, torch.zeros(3))) and not saver.finish(state(3, torch.zeros(3)), 1.0)
    found = Checkpoints(run).latest()
    assert found is not None and found.progress.step == 1
    old.close("interrupted")
    other.close("finished")


def test_a_training_that_another_has_followed_leaves(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = untracked / "run"
    begin = Saver.save

    def follow(self: Saver, state: State) -> bool:
        LifeNotes(str(output)).begin(1, 0, None)
        return begin(self, state)

    monkeypatch.setattr(Saver, "save", follow)
    with pytest.raises(SystemExit) as ended:
        train(simclr(epochs=4), data, output)
    assert ended.value.code == EVICTED and not (output / "encoder").exists()
    assert Checkpoints(str(output)).latest() is None
