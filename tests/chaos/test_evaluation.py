"""An evaluation that is killed in the middle, or a node of it: the same numbers, in one run."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import torch

from hardviews.data.pack_command import Packing
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.views.augmentation import Normalisation
from tests.elastic.processes import descendants

HARDVIEWS = str(Path(sys.executable).parent / "hardviews")

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Packing("digits", str(tmp_path / "data")).run()
    torch.manual_seed(0)
    save(Encoder(Backbone("test_resnet"), Normalisation(), None, 32), str(tmp_path / "encoder"))
    return tmp_path


def evaluation(folder: Path, name: str, *before: str) -> "subprocess.Popen[bytes]":
    words = [*before, "linear", "--encoder", str(folder / "encoder"), "--data", str(folder / "data"), "--no-baselines"]
    words += ["--batch-size", "4", "--epochs", "20", "--project", str(folder / name)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HARDVIEWS_CACHE": str(folder / f"{name}-cache")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([HARDVIEWS, *words], stderr=log, stdout=log, env=environment, start_new_session=True)


def agents(job: "subprocess.Popen[bytes]") -> Iterator[int]:
    for pid in descendants(job.pid):
        if b"hardviews.elastic.agent" in Path(f"/proc/{pid}/cmdline").read_bytes():
            yield pid


def until_features(folder: Path, job: "subprocess.Popen[bytes]", name: str) -> None:
    """Wait until some micro-batches are on the disk."""
    while sum(file.stat().st_size for file in (folder / f"{name}-cache").rglob("*.crc32")) < 80:
        assert job.poll() is None, (folder / f"{name}.log").read_text()
        time.sleep(0.05)


def outcome(folder: Path, name: str) -> tuple[dict[str, float], list[list[str]]]:
    """Return the metrics and the predictions of the only run."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / name / 'mlflow.db'}")
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert len(found) == 1
    assert found[0].info.status == "FINISHED"
    metrics = {key: value for key, value in found[0].data.metrics.items() if key.startswith("linear/")}
    file = client.download_artifacts(found[0].info.run_id, "predictions.csv", str(folder))
    return metrics, list(csv.reader(Path(file).open()))


def test_a_kill_costs_no_number_and_makes_no_second_run(folder: Path) -> None:
    alone = evaluation(folder, "alone")
    assert alone.wait() == 0, (folder / "alone.log").read_text()
    expected = outcome(folder, "alone")

    job = evaluation(folder, "job", "launch", "--nnodes", "2")
    until_features(folder, job, "job")
    os.kill(sorted(agents(job))[-1], signal.SIGKILL)
    said = folder / "job.log"
    assert job.wait() == 0, said.read_text()
    assert "was killed by SIGKILL; starting it again" in said.read_text()
    assert outcome(folder, "job") == expected

    command = evaluation(folder, "command")
    until_features(folder, command, "command")
    command.kill()
    command.wait()
    assert evaluation(folder, "command").wait() == 0, (folder / "command.log").read_text()
    assert outcome(folder, "command") == expected
    assert evaluation(folder, "command").wait() == 0  # a finished one is left alone: this is another
    with pytest.raises(AssertionError, match="assert 2 == 1"):
        outcome(folder, "command")
