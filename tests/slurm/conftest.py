"""A Slurm for all tests of this folder, if its programs are installed."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster, missing, running


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if lacking := missing():
        pytest.skip(f"Slurm is not installed ({', '.join(lacking)}): apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root: they start the jobs of others")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    with running(folder) as slurm:
        yield slurm
    shutil.rmtree(folder, ignore_errors=True)
