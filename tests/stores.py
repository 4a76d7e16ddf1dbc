"""Fixtures: a project's folder with an empty SQLite tracking store, and a client to look into it."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.uri import default_uri


@functools.cache
def empty_store():
    """Making a store's tables takes seconds, copying it none."""
    folder = Path(tempfile.mkdtemp(prefix="hardviews-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Run.start("first", "first", folder=folder, uri=default_uri(folder)).close()
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "project"
    shutil.copytree(empty_store(), folder)
    return folder


@pytest.fixture
def client(project):
    from mlflow.tracking import MlflowClient

    assert "MLFLOW_TRACKING_URI" not in os.environ
    return MlflowClient(default_uri(project))
