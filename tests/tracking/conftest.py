import os
import shutil

import pytest

from hardviews.tracking.run import Run
from hardviews.tracking.server import default_uri


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A project's folder with an empty SQLite store: making its tables takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("store")
    Run.start("first", "first", folder=folder).close()
    return folder


@pytest.fixture
def project(empty_store, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "project"
    shutil.copytree(empty_store, folder)
    return folder


@pytest.fixture
def client(project):
    from mlflow.tracking import MlflowClient

    assert "MLFLOW_TRACKING_URI" not in os.environ
    return MlflowClient(default_uri(project))
