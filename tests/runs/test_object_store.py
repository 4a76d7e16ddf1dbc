"""A run whose output lies in a bucket: killed, damaged and started again, it is the run in a folder."""

import json
from pathlib import Path

import pytest

from hardviews.models.encoder import load
from hardviews.runs.audit import audit
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.where import Where
from hardviews.storage.store import open_store
from hardviews.train.loop import pretrain
from tests.train.runs import TIMES, dying, rows, simclr, train, weights


def live(recipe, data: str, output: str, folder: Path, dies: tuple[int, ...] = ()) -> None:
    where = Where(data, output, str(folder / "project"))
    for step in dies:
        with dying(step):
            pretrain(recipe, where)
            raise AssertionError(f"step {step} was not reached")
    pretrain(recipe, where)


def test_killed_and_damaged_in_a_bucket_it_is_the_run_in_a_folder(
    data: str,
    untracked: Path,
    s3,
) -> None:
    recipe = simclr(2)
    whole = train(recipe, data, untracked / "whole")
    output = f"{s3.bucket()}/runs/1"
    with pytest.raises(AssertionError, match="not reached"):
        live(recipe, data, output, untracked, (4, 7, 99))
    store = open_store(output)
    # All that a node needs to go on with the run lies in the bucket.
    assert store.folders() == ["checkpoints", "encoder", "lives"]
    assert store.files() == ["history.jsonl", "run.json"]
    told = [json.loads(line) for line in store.read("history.jsonl").splitlines()]
    assert [{k: v for k, v in row.items() if k not in TIMES} for row in told] == rows(whole)
    assert load(output).digest == weights(whole)
    assert {row["restarts"] for row in told} == {0, 1, 2}
    report = audit(output)
    assert not report.problems and len(report.lives) == 3

    # The newest checkpoint is cut: the run goes on from the one before, to the same end.
    name = Checkpoints(output).names()[0]
    file = f"checkpoints/{name}/__0_0.distcp"
    store.write(file, store.read(file)[:-100])
    assert audit(output).problems
    live(recipe, data, output, untracked)
    assert load(output).digest == weights(whole)
    assert not audit(output).problems


def test_the_store_goes_away_during_a_save_and_comes_back(data: str, untracked: Path, s3, monkeypatch) -> None:
    """Steps go on meanwhile; the last save waits for it."""
    from hardviews.train.trainer import Trainer

    original = Trainer.step
    taken = []

    def step(self, raws, clock, *flags):
        if clock.step == 2:
            s3.stop()
        if clock.step == 8:
            assert taken == list(range(8))
            s3.start()
        taken.append(clock.step)
        return original(self, raws, clock, *flags)

    monkeypatch.setattr(Trainer, "step", step)
    output = f"{s3.bucket()}/run"
    live(simclr(2, checkpoint_steps=0, checkpoint_seconds=0.01), data, output, untracked)
    assert taken == list(range(10))
    report = audit(output)
    assert report.step == 10 and not report.problems
    assert load(output).digest
