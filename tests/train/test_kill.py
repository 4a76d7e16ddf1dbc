"""The real thing: a process that is killed, asked to leave and started again, and its tracking run."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hardviews.elastic.worker import EVICTED
from hardviews.tracking.metric_groups import grouped
from tests.train.runs import TIMES, rows, weights

pytestmark = [pytest.mark.laws, pytest.mark.timeout(300)]
SEED = random.SystemRandom().randrange(1000)
# 90 images in batches of 16: five steps an epoch.
SETTINGS = "--training.epochs 4 --training.batch 16 --training.group 4 --training.log-steps 1 --method.view.size 16"


def command(data: str, folder: Path, *words: str) -> list[str]:
    where = ["--data", data, "--output", str(folder / "run"), "--project", str(folder)]
    return [sys.executable, "-m", "hardviews.cli", "pretrain", "digits", *where, *SETTINGS.split(), *words]


def begin(data: str, folder: Path, *words: str) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command(data, folder, *words), stderr=subprocess.PIPE, text=True, env=environment)


def steps(folder: Path) -> int:
    history = folder / "run" / "history.jsonl"
    # Measurements before the first step have a row without a loss.
    return history.read_text().count('"loss"') if history.exists() else 0


def reach(process: subprocess.Popen, folder: Path, step: int) -> None:
    while steps(folder) < step:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def tracked(folder: Path) -> tuple[list, str]:
    """Return every metric of the only run, in the order of steps, and how it ended."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        ((run, status),) = store.execute("select run_uuid, status from runs").fetchall()
        assert json.loads((folder / "run" / "run.json").read_text())["run_id"] == run
        values = store.execute("select key, step, value from metrics order by key, step").fetchall()
    assert any(key.startswith("system/") for key, _, _ in values), "the machine's figures are missing"
    timed = set(map(grouped, TIMES))
    return [row for row in values if row[0] not in timed and not row[0].startswith("system")], status


def test_killed_and_evicted_it_is_the_same_run(data: str, tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    # Saved often in one and seldom in the other: how often changes nothing.
    whole = begin(data, tmp_path / "whole", "--training.checkpoint-steps", "50")
    assert whole.wait(600) == 0, whole.stderr.read()

    step = random.Random(SEED).randrange(2, 8)
    print(f"seed {SEED}: killed after step {step}")
    words = ("--training.checkpoint-steps", "3")
    broken = begin(data, tmp_path / "broken", *words)
    reach(broken, tmp_path / "broken", step)
    broken.send_signal(signal.SIGKILL)
    assert broken.wait(30) == -signal.SIGKILL

    broken = begin(data, tmp_path / "broken", *words)
    reach(broken, tmp_path / "broken", 11)
    broken.send_signal(signal.SIGTERM)
    assert broken.wait(300) == EVICTED
    said = broken.stderr.read()
    assert "asked to leave: saved at step" in said and "Traceback" not in said
    left = steps(tmp_path / "broken")
    (manifest,) = (tmp_path / "broken" / "run" / "checkpoints").glob(f"step-{left:08d}/manifest.json")
    assert json.loads(manifest.read_text())["progress"]["step"] == left < 20

    broken = begin(data, tmp_path / "broken", *words)
    assert broken.wait(600) == 0, broken.stderr.read()
    assert f"step {left} of 20" in broken.stderr.read()

    assert [row["step"] for row in rows(tmp_path / "broken" / "run")] == list(range(21))  # before the first step, too
    assert rows(tmp_path / "broken" / "run") == rows(tmp_path / "whole" / "run")
    assert weights(tmp_path / "broken" / "run") == weights(tmp_path / "whole" / "run")
    assert tracked(tmp_path / "broken") == tracked(tmp_path / "whole")
    assert tracked(tmp_path / "whole")[1] == "FINISHED"
