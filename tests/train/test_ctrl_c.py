"""Ctrl-C while a run trains: the step is finished and saved, and the same command loses and repeats nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hardviews.cli import main
from hardviews.interrupts import listening
from hardviews.runs.audit import audit
from hardviews.runs.life import read_lives
from hardviews.runs.saver import Saver
from hardviews.train.loop import Pretraining
from hardviews.train.monitor import Monitor
from hardviews.train.stop import StopFlag
from hardviews.train.trainer import Trainer
from tests.stores import project
from tests.train.runs import STEPS, rows, simclr, train, weights

__all__ = ["project"]
SETTINGS = "--training.batch 16 --training.group 4 --training.checkpoint-steps 0 --training.checkpoint-seconds 0"


def pressing(plain: Callable[..., Any], *calls: int) -> Callable[..., Any]:
    """Return a function at whose calls with these numbers, from 1, Ctrl-C is pressed."""
    count = iter(range(1, 1_000_000))

    def called(*given: Any, **named: Any) -> Any:
        if next(count) in calls:
            signal.raise_signal(signal.SIGINT)
        return plain(*given, **named)

    return called


def start(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command; its timeline comes through stderr."""
    plain = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment = plain | {"OMP_NUM_THREADS": "1", "HARDVIEWS_TIMELINE": "-"}
    command = [sys.executable, "-m", "hardviews.cli", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder)


def press_at(process: subprocess.Popen[str], event: str) -> str:
    """Press Ctrl-C once a line of stderr has an event; return what the process says until its end."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if event in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    process.wait(120)
    return "".join(seen) + rest


def saved_by(process: subprocess.Popen[str], event: str) -> str:
    """Press Ctrl-C at an event; return what the process said, which saved and told how to go on."""
    said = press_at(process, event)
    assert process.returncode == 130, said
    assert "finishing the step, then saving; press Ctrl-C again to end at once" in said
    assert "asked to leave: saved at step" in said and "the same command goes on from there" in said
    assert said.endswith("hardviews: interrupted\n") and "Traceback" not in said
    return said


@pytest.mark.laws
@pytest.mark.timeout(600)
def test_a_process_that_is_interrupted_saves_and_goes_on(data: str, project: Path, untracked: Path) -> None:
    output = untracked / "run"
    places = ["--data", data, "--output", str(output), "--project", str(project)]
    settings = f"{SETTINGS} --training.epochs 8 --method.view.size 16 --loader.workers 1"
    words = ["pretrain", "digits_simsiam", *places, *settings.split()]
    saved_by(start(words, untracked), '"event": "first_step"')
    (life,) = read_lives(str(output))
    (saved,) = (output / "checkpoints").iterdir()
    step = json.loads((saved / "manifest.json").read_text())["progress"]["step"]
    assert life.end == "evicted" and 1 <= step == life.reached < 8 * STEPS
    main(words)
    report = audit(str(output))
    assert (report.lost, report.repeated, report.rolled_back, report.problems) == (0, 0, 0, ())
    assert [life.resumed for life in report.lives] == [0, step] and report.step == 8 * STEPS


@pytest.mark.laws
@pytest.mark.timeout(600)
def test_a_trial_of_a_sweep_is_saved_too(data: str, project: Path, untracked: Path) -> None:
    output = untracked / "run"
    places = ["--recipe", "digits_finetune", "--data", data, "--output", str(output), "--project", str(project)]
    settings = f"{SETTINGS} --training.epochs 4 --method.view.size 16 --loader.workers 0 --rates 0.01 0.1"
    words = ["finetune", "timm:test_resnet", *places, *settings.split()]
    saved_by(start(words, untracked), '"event": "first_step"')
    (trial,) = (output / "sweep").glob("rate-0.01-*")
    step = audit(str(trial)).step
    assert not (output / "run.json").exists() and step >= 1
    main(words)
    assert [life.resumed for life in read_lives(str(trial))] == [0, step]
    report = audit(str(output))
    assert (report.lost, report.repeated, report.rolled_back, report.problems) == (0, 0, 0, ())


@pytest.mark.laws
@pytest.mark.timeout(600)
def test_the_second_ends_a_process_at_once(data: str, project: Path, untracked: Path) -> None:
    places = ["--data", data, "--output", str(untracked / "run"), "--project", str(project)]
    settings = f"{SETTINGS} --training.epochs 8 --method.view.size 16 --loader.workers 0"
    process = start(["pretrain", "digits_simsiam", *places, *settings.split()], untracked)
    assert process.stderr is not None
    for line in process.stderr:
        if '"event": "first_step"' in line or "press Ctrl-C again" in line:
            process.send_signal(signal.SIGINT)
        if "press Ctrl-C again" in line:
            break
    rest = process.stderr.read()
    assert process.wait(120) == 130 and "Traceback" not in rest


def test_the_run_is_the_same_as_one_that_was_not_interrupted(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(simclr(2, checkpoint_steps=0), data, untracked / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", pressing(Trainer.step, 2))
        train(simclr(2, checkpoint_steps=0), data, untracked / "cut")
    assert [life.end for life in read_lives(str(untracked / "cut"))] == ["evicted"]
    cut = train(simclr(2, checkpoint_steps=0), data, untracked / "cut")
    report = audit(str(cut))
    assert (report.lost, report.repeated, report.rolled_back, report.problems) == (0, 0, 0, ())
    assert rows(cut) == rows(whole) and weights(cut) == weights(whole)


def test_the_second_ends_at_once_without_a_save(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Trainer, "step", pressing(Trainer.step, 2, 3))
    with pytest.raises(KeyboardInterrupt):
        train(simclr(2, checkpoint_steps=0), data, untracked / "run")
    assert not list((untracked / "run").glob("checkpoints/*"))
    assert [life.end for life in read_lives(str(untracked / "run"))] == ["interrupted"]
    assert capfd.readouterr().err.count("press Ctrl-C again") == 1


def test_the_second_ends_a_save_that_does_not_end(data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Saver, *_: Any) -> bool:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the save goes on")

    monkeypatch.setattr(Trainer, "step", pressing(Trainer.step, 2))
    monkeypatch.setattr(Saver, "finish", never)
    with pytest.raises(KeyboardInterrupt):
        train(simclr(2, checkpoint_steps=0), data, untracked / "run")
    assert [life.end for life in read_lives(str(untracked / "run"))] == ["interrupted"]


def test_a_measurement_under_way_is_finished(data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Monitor, "due", lambda _, step: step == 3)
    monkeypatch.setattr(Monitor, "measure", pressing(lambda *_: {"knn/top1": 1.0}, 1))
    with pytest.raises(KeyboardInterrupt):
        train(simclr(2, checkpoint_steps=0, log_steps=1), data, untracked / "run")
    assert [row["knn/top1"] for row in rows_of(untracked / "run") if "knn/top1" in row] == [1.0]
    assert audit(str(untracked / "run")).step == 4


def test_before_the_first_step_nothing_is_saved(data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pretraining, "_begin_life", pressing(Pretraining._begin_life, 1))
    with pytest.raises(KeyboardInterrupt):
        train(simclr(1), data, untracked / "run")
    assert not list((untracked / "run").glob("checkpoints/*"))


def test_in_the_last_step_the_training_ends_and_then_the_process(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "step", pressing(Trainer.step, STEPS))
    with pytest.raises(KeyboardInterrupt):
        train(simclr(1), data, untracked / "run")
    assert [life.end for life in read_lives(str(untracked / "run"))] == ["finished"]
    assert (untracked / "run" / "encoder" / "encoder.json").exists()


def test_the_flag_that_ctrl_c_raised_is_agreed_as_that_of_sigterm() -> None:
    stop = StopFlag()
    with listening(), stop.listening():
        with stop.saving():
            signal.raise_signal(signal.SIGINT)
            assert stop.raised and stop.pressed and isinstance(stop.departure(), KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    other = StopFlag()
    with listening(), other.listening():
        signal.raise_signal(signal.SIGTERM)
        assert other.raised and not other.pressed and isinstance(other.departure(), SystemExit)


def rows_of(output: Path) -> list[dict[str, Any]]:
    """Return the history of a run that may be under way: it is in the newest checkpoint too."""
    return [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
