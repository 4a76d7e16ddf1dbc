"""The probe of the MLflow server: a real one, and small ones that answer as others do."""

import shutil
import socket

import pytest

from hardviews.doctor.probes.tracking import EXPERIMENT
from tests.stores import empty_store
from tests.tracking.servers import answering, free_port, mlflow_server


def test_a_server(tmp_path, probe):
    from mlflow.tracking import MlflowClient

    shutil.copytree(empty_store(), tmp_path / "store")
    with mlflow_server(tmp_path / "store", free_port()) as uri:
        found = probe("MLflow", tracking_uri=uri)
        assert {what: one.state for what, one in found.items()} == {
            "MLflow": "ok",
            "clock": "ok",
            "read": "ok",
            "write": "skipped",
        }
        assert "--write" in found["write"].remedy and "MLflow 3" in found["MLflow"].text
        for _ in range(2):  # the experiment of before was deleted
            assert probe("MLflow", tracking_uri=uri, write=True)["write"].state == "ok"
        assert MlflowClient(uri).get_experiment_by_name(EXPERIMENT).lifecycle_stage == "deleted"


def test_an_old_server(probe):
    with answering(200, b"2.9.1") as uri:
        found = probe("MLflow", tracking_uri=uri)
    assert found["MLflow"].state == "missing" or "older" in found["MLflow"].text


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [(401, b"", "refuses our credentials"), (404, b"", "no MLflow at this address"), (502, b"", "bad gateway")],
)
def test_answers_of_others(probe, status, body, text):
    with answering(status, body) as uri:
        found = probe("MLflow", tracking_uri=uri.replace("localhost", "me:plantedword@localhost"))
    assert any(text in one.text + one.remedy and one.state == "missing" for one in found.values()), found
    assert "plantedword" not in str(found)


def test_a_server_that_accepts_and_is_silent(probe, monkeypatch):
    monkeypatch.setattr("hardviews.doctor.probes.tracking._SECONDS", "1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = probe("MLflow", tracking_uri=f"http://127.0.0.1:{listener.getsockname()[1]}")["MLflow"]
    assert found.state == "missing" and "no answer in time" in found.text


@pytest.mark.parametrize("uri", ["localhost:5000", "http:/localhost", "mlflow.db"])
def test_addresses_that_cannot_be_right(probe, uri):
    assert probe("MLflow", tracking_uri=uri)["MLflow"].state == "missing"


def test_a_database(tmp_path, probe):
    assert probe("MLflow", tracking_uri=f"sqlite:///{tmp_path}/none.db")["MLflow"].state == "warning"
    assert not (tmp_path / "none.db").exists()
    found = probe("MLflow", tracking_uri=f"sqlite:///{empty_store()}/mlflow.db")["MLflow"]
    assert found.state == "ok" and "runs" in found.text
    (tmp_path / "text.db").write_text("this is not a database, and long enough to be read as one")
    assert probe("MLflow", tracking_uri=f"sqlite:///{tmp_path}/text.db")["MLflow"].state == "missing"
