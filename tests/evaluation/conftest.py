from pathlib import Path

import pytest

from tests.stores import client, project

__all__ = ["client", "project"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which this test keeps features."""
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"
