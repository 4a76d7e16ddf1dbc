"""An elastic training on this machine while everything around it is killed, frozen and restarted at random.

`make chaos` runs it; CHAOS_SEED repeats a run's faults and CHAOS_FAULTS is their number. The same must hold at the
end as for an undisturbed run: every sample once, one complete MLflow run, the same losses.
"""

import os
import random
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hardviews.data.pack_command import Packing
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.views.augmentation import Normalisation
from tests.chaos.harming import HARDVIEWS, Job, Server
from tests.cluster.cluster import wait_for
from tests.cluster.record import Output, check_reports, parting, pretraining_runs
from tests.cluster.reference import undisturbed

PACKING = ("--source", "photographs", "--shard-bytes", "1000000")
TOLERANCE = 1e-3  # of the losses, relative
ENCODER = "encoder"


@dataclass(frozen=True)
class Training:
    """A training that is disturbed.

    Attributes:
        recipe: its name.
        command: words of `hardviews` before the places; ENCODER stands for an encoder that training begins with.
        overrides: of the recipe and its data.
        labelled: folder in the output with the images that it is trained on, if they are a part of the dataset.
    """

    recipe: str
    command: tuple[str, ...]
    overrides: tuple[str, ...]
    labelled: str | None = None


# Settings under which the number of processes changes little, as recipes/smoke.py explains.
_STEADY = ("--training.batch", "192", "--precision.compute", "float64", "--training.log-steps", "1")
TRAININGS = {
    "pretrain": Training("smoke", ("pretrain", "smoke"), ("--training.checkpoint-seconds", "4")),
    "finetune": Training(
        "digits_finetune",
        ("finetune", ENCODER, "--recipe", "digits_finetune"),
        ("--labels", "50%", "--training.epochs", "6", *_STEADY, "--training.checkpoint-seconds", "4"),
        "labelled/50pct-seed0",
    ),
}


def encoder(folder: Path) -> None:
    """Write the encoder that a fine-tuning begins with."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save(Encoder(Backbone("test_resnet"), Normalisation(), None, 32), str(folder / ENCODER))


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TRAININGS)
def test_faults_at_random_change_nothing(s3, tmp_path, name):
    training = TRAININGS[name]
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    faults = int(os.environ.get("CHAOS_FAULTS") or 12)
    print(f"CHAOS_SEED={seed} CHAOS_FAULTS={faults}", flush=True)
    chance = random.Random(seed)
    encoder(tmp_path)
    rows = undisturbed(tmp_path, training.recipe, training.overrides, PACKING, training.command)

    bucket = s3.bucket()
    data, url = f"{bucket}/photographs", f"{bucket}/run"
    Packing("photographs", data, shard_bytes=1_000_000).run()
    served = tmp_path / "mlflow"
    served.mkdir()
    mlflow = Server(served)
    variables = {**os.environ, "MLFLOW_TRACKING_URI": mlflow.uri, "OMP_NUM_THREADS": "1"}
    variables["HARDVIEWS_CACHE"] = str(tmp_path / "cache")
    words = [*training.command, "--data", data, "--output", url, "--project", str(tmp_path / "project")]
    job = Job(tmp_path, [*words, *training.overrides], variables, seed)
    output = Output(s3.client(), url)

    def store_away() -> str:
        s3.stop()
        time.sleep(chance.uniform(0, 5))
        s3.start()
        return "the store killed and begun again"

    ways: list[Callable[[], str]] = [job.kill_node, job.kill_process, job.freeze_node, job.kill_coordinator]
    ways += [job.kill_node, job.end_process, store_away, mlflow.restart]
    began, last = time.monotonic(), -1
    try:
        for _ in range(faults):
            # As a disturbed job gets on less, faults wait for it: it must get on after each of them.
            wait_for("the next checkpoint", lambda last=last: job.over() or output.step() > last, 240)
            if job.over():
                break
            last = output.step()
            time.sleep(chance.uniform(0, 4))
            done = chance.choice(ways)()
            print(f"{time.monotonic() - began:6.1f} s  step {last:3d}  {done}", flush=True)
        assert job.process.wait(600) == 0, job.log.read_text()[-6000:]
        wait_for("the log's end", lambda: pretraining_runs(_client(mlflow))[0].info.status == "FINISHED", 60)

        trained_on = data if training.labelled is None else f"{url}/{training.labelled}"
        command = [HARDVIEWS, "audit", url, "--data", trained_on]
        audited = subprocess.run(command, capture_output=True, text=True, timeout=120)
        print(audited.stdout)
        assert audited.returncode == 0, audited.stdout + audited.stderr
        assert re.search(r"\b0 samples lost, 0 repeated", audited.stdout)

        found = output.rows()
        assert [row["step"] for row in found] == list(range(1, len(found) + 1))
        client = _client(mlflow)
        (run,) = pretraining_runs(client)
        check_reports(client, run, found, output.lives())
        distance = parting(found, rows, "loss")
        print(f"{len(output.lives())} lives; losses part from the undisturbed run by {distance:.1e}", flush=True)
        assert distance <= TOLERANCE
    except BaseException:
        print(job.log.read_text()[-6000:])
        raise
    finally:
        if not job.over():
            job.close()
        mlflow.close()


def _client(server: Server):
    from mlflow.tracking import MlflowClient

    return MlflowClient(server.uri)
