"""Shared parts of the tests of training."""

from pathlib import Path

import pytest

from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.train.review import Review
from tests.train.runs import packed


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return packed(tmp_path_factory.mktemp("noise") / "shards")


@pytest.fixture
def untracked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Runs begin, but log nothing and draw nothing: seconds that have nothing to do with the weights."""
    monkeypatch.setattr(Run, "start", lambda *_, run_id=None, **__: NullRun(run_id or "unknown"))
    monkeypatch.setattr(Review, "finish", lambda *_: None)
    return tmp_path
