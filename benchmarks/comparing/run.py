"""One run of the comparison: train an arm for its budget, score its encoder, and keep the scores as a file."""

import contextlib
import io
import json
import os
import resource
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from comparing.arms import PLAIN, recipe
from hardviews.estimate.fake_step import FakeTrainer
from hardviews.estimate.ways import steps
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.evaluation.probes.linear import Linear, evaluate_linear
from hardviews.runs.where import Where
from hardviews.train.loop import pretrain
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe

PRECISIONS = ("float32", "bfloat16")
SCORES = ("knn", "linear", "transfer")


@dataclass(frozen=True)
class Setting:
    """Settings that all runs of a comparison share.

    Attributes:
        images: kind of the images that are trained on, or the name of a folder of own images.
        other: kind of the images of the transfer column.
        size: side of a view in pixels.
        cheap: side at which the cheap arms score.
        batch: images a step.
        epochs: of the plain arm; the others get as many as cost the same.
        precision: of the networks in training.
        device: of the training; times of a GPU are by the clock, those of a CPU are processor time.
    """

    images: str
    other: str
    size: int
    cheap: int
    batch: int
    epochs: int
    precision: str = PRECISIONS[0]
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name of the folder of its results."""
        sizes = f"{self.images}-{self.size}px-{self.cheap}px-{self.epochs}epochs"
        other = [value for value in (self.precision, self.device) if value not in (PRECISIONS[0], "cpu")]
        return "-".join([sizes, *other])

    def recipe(self, method: str, arm: str, epochs: int, seed: int) -> Recipe:
        """Return the recipe of a run."""
        made = recipe(method, arm, self.size, self.cheap, self.batch, epochs, seed)
        return replace(made, precision=Precision(self.device, self.precision))


@dataclass(frozen=True)
class Job:
    """Which run: a method, an arm, a budget (`flops` or `time`) and a seed."""

    method: str
    arm: str
    budget: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its file of results."""
        return f"{self.method}-{self.arm}-{self.budget}-{self.seed}"


def flops(made: Recipe, images: int = 10_000) -> float:
    """Return the FLOPs of an image in training: networks and heads, by torch's formulas on fake tensors."""
    trainer, numbers = FakeTrainer(made, images), steps(made.strategy)
    return sum(trainer.step(made.training.group, number, False).flops for number in numbers) / len(numbers)


def perform(job: Job, setting: Setting, ratio: float, folder: Path, results: Path) -> None:
    """Train for the plain arm's epochs over the ratio, score, and write the scores.

    ratio: cost of an epoch of this arm over that of the plain arm.
    """
    torch.set_num_threads(1)
    epochs = max(1, round(setting.epochs / ratio))
    output = folder / setting.name / job.name
    resumed = output.exists()
    made = setting.recipe(job.method, job.arm, epochs, job.seed)
    now = _cpu if setting.device == "cpu" else time.perf_counter
    began = now()
    pretrain(made, Where(str(folder / setting.images), str(output), project=str(folder / "project")))
    seconds = now() - began
    with contextlib.redirect_stdout(io.StringIO()):
        shared = {"run": str(output), "baselines": False, "seed": job.seed, "project": str(folder / "project")}
        near = evaluate_knn(Knn(**shared, data=str(folder / setting.images)))
        linear = evaluate_linear(Linear(**shared, data=str(folder / setting.images)))
        far = evaluate_knn(Knn(**shared, data=str(folder / setting.other)))
    rows = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    recovered = [row["selection/recovered"] for row in rows if "selection/recovered" in row]
    found = {
        **asdict(job),
        "setting": asdict(setting),
        "epochs": epochs,
        "share": epochs * ratio / setting.epochs,
        "seconds_per_epoch": None if resumed else seconds / epochs,
        "loss": rows[-1]["loss"],
        "recovered": sum(recovered) / len(recovered) if recovered else None,
        "knn": near.metrics["pretrained"]["knn/top1_k20"],
        "linear": linear.metrics["pretrained"]["linear/top1"],
        "transfer": far.metrics["pretrained"]["knn/top1_k20"],
    }
    results.mkdir(parents=True, exist_ok=True)
    part = results / f".{job.name}.json"
    part.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(part, results / f"{job.name}.json")


def ratio_of(job: Job, setting: Setting, known: list[dict]) -> float | None:
    """Return the cost of an epoch of a job's arm over that of the plain arm; None if times are not measured yet."""
    if job.budget == "flops":
        one = replace(job, seed=0)
        arm, plain = (flops(setting.recipe(one.method, name, 1, 0)) for name in (job.arm, PLAIN))
        return arm / plain
    times = {
        name: sorted(
            row["seconds_per_epoch"]
            for row in known
            if row["method"] == job.method and row["arm"] == name and row["seconds_per_epoch"]
        )
        for name in (job.arm, PLAIN)
    }
    if not all(times.values()):
        return None
    arm, plain = (found[len(found) // 2] for found in (times[job.arm], times[PLAIN]))
    return arm / plain


def _cpu() -> float:
    """Return the seconds of processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
