"""Files and models on their way to stores that refuse them, lack a function, or need a package that is missing."""

import errno
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import pytest
import torch
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder
from hardviews.tracking import spool as spool_module
from hardviews.tracking.leftovers import leftovers, send
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.server import Server
from hardviews.views.augmentation import Normalisation


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(spool_module, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(spool_module, "_LAST_PAUSE", 0.2)
    monkeypatch.setattr(spool_module, "_LAST_PAUSE_BLOCKED", 0.2)


def encoder():
    torch.manual_seed(0)
    return Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 32).eval()


def names(client, run_id, path=""):
    return sorted(item.path for item in client.list_artifacts(run_id, path))


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_without_logged_models_gets_the_encoder_as_files(project, client, caplog, monkeypatch):
    def absent(*_, **__):
        raise MlflowException("API request failed with error code 404 != 200", ENDPOINT_NOT_FOUND)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.tracking.MlflowClient, "search_logged_models", absent)
        with Run.start("exp", "x", folder=project) as run:
            run.log_encoder(encoder(), step=64)
    assert run.unsent == 0 and caplog.text.count("no logged models") == 1
    assert client.get_run(run.run_id).data.tags["hardviews.encoder"] == encoder().digest
    assert "encoder/MLmodel" in names(client, run.run_id, "encoder")
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    try:
        model = mlflow.pyfunc.load_model(f"runs:/{run.run_id}/encoder")
    finally:
        mlflow.set_tracking_uri(None)
    assert model.predict(torch.zeros(1, 32, 32, 3, dtype=torch.uint8).numpy()).shape[0] == 1


def test_files_in_s3_wait_for_the_package_and_are_sent_later(project, client, s3, caplog, monkeypatch):
    client.create_experiment("in S3", artifact_location=f"{s3.bucket()}/mlflow")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "boto3", None)
        run = Run.start("in S3", "x", folder=project)
        run.log_text("hello", "notes.txt")
        run.log_encoder(encoder())
        run.log_metrics({"loss": 1.0}, 1)
        wait_for(lambda: "pip install boto3" in caplog.text)  # at once
        assert "server is away" not in caplog.text
        caplog.clear()
        begun = time.monotonic()
        assert run.close() == 2
        assert time.monotonic() - begun < 25  # a server that is away is waited for longer
    assert "pip install boto3" in caplog.text and "hardviews runs --send" in run.undelivered
    # Lines, and the end, do not wait for files.
    got = client.get_run(run.run_id)
    assert got.data.metrics == {"loss": 1.0} and got.info.status == "FINISHED"
    left = leftovers(project)
    assert [leftover.run_id for leftover in left] == [run.run_id]
    assert send(Server.connect(None, project), left[0]) == ""
    assert leftovers(project) == [] and not left[0].folder.exists()
    assert names(client, run.run_id) == ["notes.txt"]
    got = client.get_run(run.run_id)
    assert got.data.tags["hardviews.encoder"] == encoder().digest and got.info.status == "FINISHED"


def test_a_bucket_that_is_not_there_is_reported_at_once(project, client, s3, caplog):
    client.create_experiment("nowhere", artifact_location="s3://no-such-bucket/mlflow")
    run = Run.start("nowhere", "x", folder=project)
    run.log_text("hello", "notes.txt")
    wait_for(lambda: "no bucket 'no-such-bucket'" in caplog.text)
    assert run.close() == 1 and "no bucket" in run.undelivered


def test_a_folder_for_artifacts_that_cannot_be_written_is_reported_and_costs_no_lines(
    project, client, tmp_path, caplog
):
    (tmp_path / "file").write_text("in the way")
    client.create_experiment("in the way", artifact_location=(tmp_path / "file" / "artifacts").as_uri())
    run = Run.start("in the way", "x", folder=project)
    run.log_text("hello", "notes.txt")
    run.log_metrics({"loss": 1.0}, 1)
    assert run.close() == 1
    assert "Not a directory" in run.undelivered and client.get_run(run.run_id).data.metrics == {"loss": 1.0}
    # Somebody mends it.
    (tmp_path / "file").unlink()
    assert send(Server.connect(None, project), leftovers(project)[0]) == ""
    assert names(client, run.run_id) == ["notes.txt"]


def test_one_file_that_is_refused_does_not_hold_up_the_others(project, client, monkeypatch):
    plain = mlflow.tracking.MlflowClient.log_artifacts

    def refusing(self, run_id, folder, *rest):
        if (Path(folder) / "large.txt").exists():
            raise MlflowException("API request to endpoint /x failed with error code 413 != 200")
        plain(self, run_id, folder, *rest)

    monkeypatch.setattr(mlflow.tracking.MlflowClient, "log_artifacts", refusing)
    run = Run.start("exp", "x", folder=project)
    for name in ("first.txt", "large.txt", "last.txt"):
        run.log_text("x", name)
    assert run.close() == 1
    assert "refuses requests of this size" in run.undelivered
    assert names(client, run.run_id) == ["first.txt", "last.txt"]


def test_a_full_disk_costs_files_alone_and_is_noted(project, client, caplog, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Run.start("exp", "x", folder=project) as run:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", full)
            run.log_text("x", "x.txt")
            run.log_figure(Figure(), "figures/x.png")
            run.log_encoder(encoder())
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "mkstemp", full)
            run.log_encoder(encoder())
        run.log_metrics({"loss": 1.0}, 1)
        run.log_text("y", "y.txt")
    got = client.get_run(run.run_id)
    assert got.info.status == "FINISHED" and got.data.metrics == {"loss": 1.0}
    assert "4 records or files" in got.data.tags["hardviews.lost"] and run.unsent == 4
    assert names(client, run.run_id) == ["y.txt"] and caplog.text.count("the disk is full") >= 4


def test_text_that_utf_8_cannot_hold_reaches_the_store_with_escapes(project, client):
    with Run.start("exp", "x\udce9", tags={"folder": "x\udce9"}, folder=project) as run:
        run.log_params({"data": "x\udce9/\udcff"})
        run.log_text("x\udce9", "notes.txt")
    got = client.get_run(run.run_id)
    assert run.unsent == 0 and got.info.run_name == "x\\xe9"
    assert got.data.params == {"data": "x\\xe9/\\xff"} and got.data.tags["folder"] == "x\\xe9"


def test_a_life_on_its_way_out_does_not_end_the_run_of_the_next(project, client):
    old = Run.start("exp", "x", folder=project, life=1)
    new = Run.start("exp", "x", old.run_id, folder=project, life=2)
    assert new.drain(60)
    old.close("FAILED")
    assert client.get_run(old.run_id).info.status == "RUNNING"
    new.close("KILLED")
    assert client.get_run(old.run_id).info.status == "KILLED"
    last = Run.start("exp", "x", old.run_id, folder=project, life=3)
    assert last.drain(60) and client.get_run(old.run_id).info.status == "RUNNING"
    last.close()
