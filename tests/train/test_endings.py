"""Ctrl-C, pressed again while a life or an evaluation ends: it ends in order, or reports what stays open."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hardviews.interrupts import GivenUp, leaving_on_sigterm, listening
from hardviews.runs.life import read_lives
from hardviews.runs.record import Record
from hardviews.runs.saver import Saver
from hardviews.runs.where import Where
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.spool import Spool
from hardviews.train.loop import pretrain
from hardviews.train.review import Review
from hardviews.train.trainer import Trainer
from tests.stores import client, project
from tests.train.runs import simclr

__all__ = ["client", "project"]
INT, TERM = signal.SIGINT, signal.SIGTERM


def before(plain: Callable[..., Any], *signals: int) -> Callable[..., Any]:
    """Return a function that is called only after so many signals to this process."""

    def called(*arguments: Any, **named: Any) -> Any:
        for number in signals:
            signal.raise_signal(number)
        return plain(*arguments, **named)

    return called


def once(plain: Callable[..., Any], number: int) -> Callable[..., Any]:
    """Return a function before whose first call a signal comes."""
    signals = [number]

    def called(*arguments: Any, **named: Any) -> Any:
        if signals:
            signal.raise_signal(signals.pop())
        return plain(*arguments, **named)

    return called


@pytest.mark.parametrize("further", [(INT,), (TERM, TERM, INT), ()])
def test_a_life_that_ends_is_not_cut(
    further: tuple[int, ...],
    data: str,
    project: Path,
    client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    where = Where(data, str(tmp_path / "out"), str(project))
    monkeypatch.setattr(Trainer, "step", once(Trainer.step, INT))
    monkeypatch.setattr(Saver, "close", before(Saver.close, *further))
    with pytest.raises(KeyboardInterrupt) as caught:
        pretrain(simclr(1), where)
    assert caught.type is KeyboardInterrupt
    record = Record.read(where.output)
    assert record is not None and client.get_run(record.run_id).info.status == "KILLED"
    assert [life.end for life in read_lives(where.output)] == ["evicted"]
    assert ("press Ctrl-C again to give up" in capfd.readouterr().err) == (INT in further)


def test_a_life_that_is_given_up_says_which_command_closes_it(
    data: str,
    project: Path,
    client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    where = Where(data, str(tmp_path / "out"), str(project))
    monkeypatch.setattr(Trainer, "step", once(Trainer.step, INT))
    monkeypatch.setattr(Saver, "close", before(Saver.close, INT, INT))
    with pytest.raises(GivenUp):
        pretrain(simclr(1), where)
    record = Record.read(where.output)
    assert record is not None and client.get_run(record.run_id).info.status == "RUNNING"
    assert [life.end for life in read_lives(where.output)] == [None]
    said = [line.getMessage() for line in caplog.records if "given up" in line.getMessage()]
    assert len(said) == 1 and record.run_id in said[0]
    assert f"hardviews runs --send --close --project {project}" in said[0]


def test_ctrl_c_in_the_end_of_a_finished_training_is_raised_after_it(
    data: str, project: Path, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Where(data, str(tmp_path / "out"), str(project))
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    monkeypatch.setattr(Saver, "close", before(Saver.close, INT))
    with pytest.raises(KeyboardInterrupt):
        pretrain(simclr(1), where)
    record = Record.read(where.output)
    assert record is not None and client.get_run(record.run_id).info.status == "FINISHED"
    assert [life.end for life in read_lives(where.output)] == ["finished"]


@pytest.mark.parametrize(
    ("first", "further", "status"),
    [
        ((INT,), (INT,), "KILLED"),
        ((TERM,), (TERM, TERM), "KILLED"),
        ((), (INT,), "FINISHED"),
        ((), (TERM,), "FINISHED"),
        ((INT,), (INT, INT), "RUNNING"),
    ],
)
def test_the_run_of_an_evaluation_ends_in_order(
    first: tuple[int, ...],
    further: tuple[int, ...],
    status: str,
    project: Path,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run.start("exp", "knn", folder=project)
    assert run.drain(60)
    signals, plain = iter(further), Spool.close

    def close(spool: Spool, *rest: Any, **named: Any) -> int:
        for number in signals:
            signal.raise_signal(number)
        return plain(spool, *rest, **named)

    monkeypatch.setattr(Spool, "close", close)
    with pytest.raises((KeyboardInterrupt, SystemExit)), listening(), leaving_on_sigterm(), run:
        for number in first:
            signal.raise_signal(number)
    assert client.get_run(run.run_id).info.status == status
    assert ("hardviews runs --send --close" in caplog.text) == (status == "RUNNING")
    if status == "RUNNING":
        run._closed = False
        run.close(None, timeout=1.0)  # its threads end
