"""`hardviews health`: the verdict on a run from its files, wherever they are."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hardviews import cli
from hardviews.errors import UserError
from hardviews.evaluation.monitoring.health import Health, judge, report
from hardviews.health.course import Course
from hardviews.optim.optimizer import Optimizer
from hardviews.runs.history import History, read_rows
from hardviews.runs.nonfinite import record_name, recorded
from hardviews.runs.where import Where
from hardviews.storage.store import open_store
from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.train.loop import pretrain
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.review import Review
from tests.train.runs import STEPS, dying, packed, simclr, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return packed(tmp_path_factory.mktemp("noise") / "shards")


@pytest.fixture(scope="module")
def recipe():
    return replace(simclr(), monitor=MonitorConfig(steps=3))


@pytest.fixture(scope="module")
def untracked_patch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "start", lambda *_, run_id=None, **__: NullRun(run_id or "unknown"))
        patch.setattr(Review, "finish", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def finished(data: str, recipe, untracked_patch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe, data, tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="module")
def broken(data: str, untracked_patch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped at a loss that is not finite."""
    output = tmp_path_factory.mktemp("broken") / "run"
    diverging = replace(simclr(log_steps=1), optimizer=Optimizer("momentum", learning_rate=1e12))
    with pytest.raises(UserError, match="is not finite"):
        pretrain(diverging, Where(data, str(output), str(output.parent / "project")))
    return output


def command(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str, str]:
    code = 0
    try:
        cli.main(["health", *words])
    except SystemExit as ended:
        code = ended.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_finished_run_is_ok_and_its_figures_are_shown(finished: Path, capsys) -> None:
    code, out, _ = command(capsys, str(finished))
    assert code == 0 and f"{finished}: ok" in out
    for name in ("loss", "spread", "health/rankme", "health/lidar", "projector"):
        assert name in out
    found = report(str(finished), Health((str(finished),)))
    rows = [row for row in read_rows(str(finished)) if "health/rankme" in row]
    assert found.first["health/rankme"] == rows[0]["health/rankme"]
    assert found.last["health/rankme"] == rows[-1]["health/rankme"] and found.step == 2 * STEPS


def test_several_runs_and_the_exit_code_of_the_worst(finished: Path, broken: Path, capsys) -> None:
    code, out, _ = command(capsys, str(finished), str(broken))
    assert code == 1
    assert ": ok" in out and f"{broken}: diverged" in out and "The loss is not finite at step" in out


def test_a_report_as_json(finished: Path, broken: Path, capsys) -> None:
    code, out, _ = command(capsys, str(finished), str(broken), "--json")
    first, second = json.loads(out)
    assert code == 1 and (first["verdict"], second["verdict"]) == ("ok", "diverged")
    assert first["last"]["health/rankme"] > 1 and first["evidence"] and first["run"] == str(finished)


def test_a_run_under_way_is_unfinished_and_its_last_line_may_be_cut(data, recipe, untracked_patch, tmp_path, capsys):
    with dying(7):
        train(recipe, data, tmp_path / "run")
    with (tmp_path / "run" / "history.jsonl").open("a") as stream:
        stream.write('{"step": 8, "sam')
    code, out, _ = command(capsys, str(tmp_path / "run"))
    assert code == 0 and "run: unfinished" in out


def test_a_run_that_went_on_past_a_divergence_is_not_judged_by_it(finished: Path, broken: Path, tmp_path: Path) -> None:
    assert recorded(str(finished)) is None
    step = recorded(str(broken))
    assert step is not None and judge(str(broken), Course([{"step": step, "samples": 0, "loss": 1}])).kind == "diverged"
    assert judge(str(broken), Course([{"step": step + 1, "samples": 0, "loss": 1}])).kind == "unfinished"
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / record_name(99, 0)).write_text("{}")
    assert judge(str(tmp_path / "run"), Course(read_rows(str(finished)))).kind == "ok"


def test_in_an_object_store_the_newest_checkpoint_has_the_metrics(s3, data, recipe, untracked_patch, tmp_path, capsys):
    output = f"{s3.bucket()}/run"
    with dying(7):
        pretrain(recipe, Where(data, output, str(tmp_path / "project")))
    assert open_store(output).size("history.jsonl") is None, "it appears at the end"
    code, out, _ = command(capsys, output)
    assert code == 0 and f"{output}: unfinished" in out
    assert read_rows(output)[-1]["step"] == 6
    pretrain(recipe, Where(data, output, str(tmp_path / "project")))
    assert read_rows(output)[-1]["step"] == 2 * STEPS
    assert f"{output}: ok" in command(capsys, output)[1]


def test_the_encoder_is_measured_on_given_data(finished: Path, data: str, capsys) -> None:
    code, out, _ = command(capsys, str(finished), "--data", data)
    assert code == 0 and "--data" in out
    found = report(str(finished), Health((str(finished),), data=data))
    # The same images by the same transform as in training; only the views are others.
    for name in ("rankme", "uniformity", "collapsed_dims", "spread"):
        assert found.measured[f"health/{name}"] == pytest.approx(found.last[f"health/{name}"], rel=1e-3, abs=1e-5)
    assert found.measured["health/lidar"] > 1
    few = report(str(finished), Health((str(finished),), data=data, images=20))
    assert few.measured["health/rankme"] < found.measured["health/rankme"]


def test_an_encoder_without_its_run_is_measured_and_not_judged(finished: Path, data: str, tmp_path, capsys) -> None:
    shutil.copytree(finished / "encoder", tmp_path / "encoder")
    code, out, _ = command(capsys, str(tmp_path / "encoder"), "--data", data)
    assert code == 0 and "health/rankme" in out and ": ok" not in out
    (found,) = json.loads(command(capsys, str(tmp_path / "encoder"), "--data", data, "--json")[1])
    assert found["verdict"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Say which run: hardviews health RUN"),
        (("nowhere",), "No report of a training is at nowhere"),
        (("nowhere", "--data", "shards"), "nowhere"),
        ((" ",), "--run"),
        (("run", "--images", "1"), "--images is 1"),
    ],
)
def test_mistakes_are_one_paragraph(words, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = command(capsys, *words)
    assert code == 2 and message in error and "Traceback" not in error and out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_ends_what_is_read(tmp_path: Path) -> None:
    history = History(str(tmp_path), b"", write=True)
    history.add({"step": 1, "samples": 16})
    with history.path.open("a") as stream:
        stream.write("not json\n")
    assert read_rows(str(tmp_path)) == [{"step": 1, "samples": 16}]
    assert read_rows(str(tmp_path / "nothing")) == []
