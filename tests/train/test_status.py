"""How a run stands in the tracking after each kind of end: it is RUNNING only while something runs."""

from pathlib import Path
from typing import Any

import pytest

from hardviews.errors import UserError
from hardviews.runs.record import Record
from hardviews.runs.where import Where
from hardviews.train import opening
from hardviews.train.loop import pretrain
from hardviews.train.review import Review
from hardviews.train.trainer import Trainer
from tests.stores import client, project
from tests.train.runs import simclr

__all__ = ["client", "project"]


def test_a_run_is_running_only_while_something_runs(
    data: str, project: Path, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    where = Where(data, str(tmp_path / "out"), str(project))
    recipe = simclr(1)

    def status() -> str:
        record = Record.read(where.output)
        assert record is not None
        return str(client.get_run(record.run_id).info.status)

    for error, expected in ((RuntimeError("lost a peer"), "FAILED"), (UserError("wrong"), "FAILED")):
        with monkeypatch.context() as patch, pytest.raises(type(error)):
            patch.setattr(Trainer, "step", lambda *_, error=error: (_ for _ in ()).throw(error))
            pretrain(recipe, where)
        assert status() == expected
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        step = Trainer.step
        patch.setattr(Trainer, "step", lambda self, raws, clock, stop, due: step(self, raws, clock, True, due))
        pretrain(recipe, where)
    assert status() == "KILLED"
    record = Record.read(where.output)
    assert record is not None
    client.update_run(record.run_id, "RUNNING")  # as a life that was killed outright leaves it
    # A mistake before the run is opened: in a restart of its own job it is the run's failure.
    with monkeypatch.context() as patch, pytest.raises(UserError):
        patch.setattr("hardviews.train.loop.check_sizes", lambda *_: (_ for _ in ()).throw(UserError("too many")))
        pretrain(recipe, where)
    assert status() == "RUNNING"
    with monkeypatch.context() as patch, pytest.raises(UserError):
        patch.setattr("hardviews.train.loop.check_sizes", lambda *_: (_ for _ in ()).throw(UserError("too many")))
        patch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
        patch.setattr(opening, "_REPORTING", 60.0)
        pretrain(recipe, where)
    assert status() == "FAILED"
    pretrain(recipe, where)
    assert status() == "FINISHED"
    tags = client.get_run(record.run_id).data.tags
    assert tags["hardviews.output"] == where.output


def test_a_training_that_was_not_exported_is_not_finished(
    data: str, project: Path, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    where = Where(data, str(tmp_path / "out"), str(project))
    with monkeypatch.context() as patch, pytest.raises(UserError, match="no room"):
        patch.setattr("hardviews.train.loop.export", lambda *_: (_ for _ in ()).throw(UserError("no room")))
        pretrain(simclr(1), where)
    record = Record.read(where.output)
    assert record is not None and client.get_run(record.run_id).info.status == "FAILED"
