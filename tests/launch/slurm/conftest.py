"""A Slurm that answers what a test has written down."""

import pytest

from tests.launch.slurm.fake import FakeSlurm


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder))
    return fake
