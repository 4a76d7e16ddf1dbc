import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from hardviews.errors import UserError
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder
from hardviews.tracking.content import Content
from hardviews.tracking.failures import MissingRun
from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.views.augmentation import Normalisation


@dataclass(frozen=True)
class Recipe:
    epochs: int = 3
    rate: float = 0.5


def names(client, run_id, path=""):
    return sorted(item.path for item in client.list_artifacts(run_id, path))


def test_everything_that_is_logged_is_in_the_store(project, client, tmp_path):
    figure = Figure()
    figure.add_subplot().plot([1, 2])
    (tmp_path / "notes.txt").write_text("hello")
    with Run.start("exp", "demo", tags={"data": "abc"}, folder=project) as run:
        run.log_params(Recipe())
        for step in range(0, 3200, 32):
            run.log_metrics({"loss": torch.tensor(1 / (step + 1)), "rate": 0.1}, step)
        run.log_metrics({"broken": float("nan")}, 1)
        run.log_figure(figure, "figures/curves.png")
        run.log_text("a: https://u:secret@h/", "recipe.txt")
        run.log_dict({"b": 1, "a": (2, 3)}, "resolved.json")
        run.log_artifact(tmp_path / "notes.txt")
        run.set_tags({"late": "yes", "aws_secret": "x"})
    got = client.get_run(run.run_id)
    assert got.info.status == "FINISHED" and got.info.run_name == "demo"
    assert got.data.params == {"epochs": "3", "rate": "0.5"}
    assert {k: got.data.tags[k] for k in ("data", "late", "aws_secret")} == {
        "data": "abc",
        "late": "yes",
        "aws_secret": "***",
    }
    history = client.get_metric_history(run.run_id, "loss")
    assert [m.step for m in history] == list(range(0, 3200, 32))
    assert [m.value for m in history] == pytest.approx([1 / (m.step + 1) for m in history])
    assert np.isnan(got.data.metrics["broken"])
    assert names(client, run.run_id) == ["figures", "notes.txt", "recipe.txt", "resolved.json"]
    assert names(client, run.run_id, "figures") == ["figures/curves.png"]
    where = Path(client.download_artifacts(run.run_id, "", str(tmp_path)))
    assert (where / "recipe.txt").read_text() == "a: https://***@h/"
    assert json.loads((where / "resolved.json").read_text()) == {"a": [2, 3], "b": 1}
    assert list((project / "spool").iterdir()) == []


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_how_it_ended_is_reported(project, client, error, status):
    with pytest.raises(error), Run.start("exp", "x", folder=project) as run:
        raise error
    assert client.get_run(run.run_id).info.status == status


def test_resumed_run_goes_on_with_steps_that_only_grow(project, client):
    run = Run.start("exp", "x", folder=project)
    run.log_params(Recipe())
    for step in range(1, 11):
        run.log_metrics({"loss": step}, step)
    run.close(None)
    assert client.get_run(run.run_id).info.status == "RUNNING"
    # The checkpoint was of step 7: steps 8 to 10 are made again.
    again = Run.start("other", "y", run.run_id, folder=project)
    again.log_params(Recipe(rate=0.7))
    for step in range(8, 15):
        again.log_metrics({"loss": step, "new": step}, step)
    again.close()
    assert again.run_id == run.run_id
    assert [m.step for m in client.get_metric_history(run.run_id, "loss")] == list(range(1, 15))
    assert [m.step for m in client.get_metric_history(run.run_id, "new")] == list(range(8, 15))
    got = client.get_run(run.run_id)
    assert got.data.params["rate"] == "0.5" and got.data.tags["hardviews.resumed.rate"] == "0.7"
    assert got.info.status == "FINISHED"


KILLED = """
import os, signal, sys
from hardviews.tracking.mlflow_run import Run
run = Run.start("exp", "x", folder=sys.argv[1])
for step in range(1, 6):
    run.log_metrics({"loss": step}, step)
run.drain(20)
# From here on the store is away, and the process dies.
run._server.client = None
for step in range(6, 11):
    run.log_metrics({"loss": step}, step)
run.log_text("written", "late.txt")
while run._lines._queue.unfinished_tasks or run._uploads._queue.unfinished_tasks:
    pass
print(run.run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_hands_its_spool_to_the_next(project, client):
    done = subprocess.run([sys.executable, "-c", KILLED, str(project)], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == -9
    run_id = done.stdout.strip()
    assert [m.step for m in client.get_metric_history(run_id, "loss")] == list(range(1, 6))
    run = Run.start("exp", "x", run_id, folder=project)
    for step in range(4, 13):
        run.log_metrics({"loss": step}, step)
    assert run.close() == 0
    assert [m.step for m in client.get_metric_history(run_id, "loss")] == list(range(1, 13))
    assert names(client, run_id) == ["late.txt"]


def test_child_run_is_in_its_parents_experiment(project, client):
    parent = Run.start("exp", "pretrain", folder=project)
    parent.close()
    with Run.start("elsewhere", "knn", parent=parent.run_id, folder=project) as child:
        pass
    got = client.get_run(child.run_id)
    assert got.data.tags["mlflow.parentRunId"] == parent.run_id
    assert got.info.experiment_id == client.get_run(parent.run_id).info.experiment_id


def test_missing_and_deleted_runs_are_reported(project, client):
    with pytest.raises(MissingRun, match="not in the tracking store"):
        Run.start("exp", "x", "0" * 32, folder=project)
    with pytest.raises(MissingRun, match="not in the tracking store"):
        Run.start("exp", "x", parent="0" * 32, folder=project)
    run = Run.start("exp", "x", folder=project)
    run.close()
    client.delete_run(run.run_id)
    with pytest.raises(MissingRun, match="deleted"):
        Run.start("exp", "x", run.run_id, folder=project)


def test_deleted_experiment_is_reported(project, client):
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(UserError, match="deleted"):
        Run.start("gone", "x", folder=project)


def test_server_that_is_not_there_is_reported_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setattr("hardviews.tracking.server._PATIENCE", 1.0)
    with pytest.raises(UserError, match=r"http://\*\*\*@127.0.0.1:9 cannot be used") as caught:
        Run.start("exp", "x", uri="http://user:secret@127.0.0.1:9", folder=tmp_path)
    assert "secret" not in str(caught.value)


def test_environment_names_the_store(project, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlflow.db")
    with Run.start("first", "x", folder=tmp_path / "elsewhere"):
        pass
    assert not (tmp_path / "elsewhere" / "mlflow.db").exists()


def test_other_ranks_do_nothing_with_the_same_calls(tmp_path):
    run = Run.start("exp", "x", run_id="abc", folder=tmp_path / "none", rank=1)
    assert isinstance(run, NullRun) and run.run_id == "abc"
    with run:
        run.log_params(Recipe())
        run.log_metrics({"loss": 1}, 1)
        run.log_figure(Figure(), "a.png")
        run.log_text("a", "b")
        run.log_dict({}, "b")
        run.log_artifact("nowhere")
        run.set_tags({"a": "b"})
        assert run.drain()
    assert run.close() == 0
    assert not (tmp_path / "none").exists()


def test_the_null_run_has_every_call_of_a_run():
    public = {name for name in vars(Run) if not name.startswith("_")} - {"start", "run_id"}
    # All logging goes through these two, or writes files before.
    writing = {name for name in vars(Content) if name.startswith("log_")} - {"log_params", "log_metrics", "log_inputs"}
    assert public | (writing - {"log_dict"}) | {"_put", "_upload"} <= set(vars(NullRun))


def test_artifact_paths_stay_inside_the_run(project):
    with Run.start("exp", "x", folder=project) as run:
        for path in ("/etc/x", "../x"):
            with pytest.raises(UserError, match="inside the run"):
                run.log_text("a", path)


@pytest.mark.parametrize("name", ["resnet10t", "test_vit"])
def test_encoder_is_a_model_that_mlflow_loads_without_pickle(project, client, name):
    torch.manual_seed(0)
    backbone = Backbone(name, small_stem=True, image_size=32 if name == "test_vit" else None)
    encoder = Encoder(backbone, Normalisation(), None, 32).eval()
    with Run.start("exp", "x", folder=project) as run:
        run.log_encoder(encoder, step=64)
    assert client.get_run(run.run_id).data.tags["hardviews.encoder"] == encoder.digest
    files = [path.name for path in (project / "artifacts").rglob("*") if path.is_file()]
    assert "encoder.safetensors" in files and "MLmodel" in files
    assert not [name for name in files if name.endswith((".pkl", ".pth", ".pt", ".bin"))]
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    try:
        model = mlflow.pyfunc.load_model(f"runs:/{run.run_id}/encoder")
    finally:
        mlflow.set_tracking_uri(None)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    expected = encoder.embed(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(model.predict(images), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(mlflow.exceptions.MlflowException):
        model.predict(images[:, :16].astype(np.float64))


UNHEARD = """
import sys
from hardviews.tracking.mlflow_run import Run
assert "mlflow" not in sys.modules  # it reads the environment on import
Run.start("e", "x", folder=sys.argv[1]).close()
from mlflow.telemetry.utils import is_telemetry_disabled
print(is_telemetry_disabled())
"""


def test_nothing_is_reported_to_mlflows_authors(project):
    # Neither this test's own settings nor those of a build machine, which silence MLflow anyway.
    silencing = ("MLFLOW", "PYTEST", "CI", "GITHUB", "GITLAB", "JENKINS", "BUILDKITE", "DO_NOT_TRACK")
    env = {key: value for key, value in os.environ.items() if not key.startswith(silencing)}
    command = [sys.executable, "-c", UNHEARD, str(project)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout.strip() == "True", done.stderr
