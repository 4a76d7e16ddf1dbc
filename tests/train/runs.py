"""Small runs for the tests of training: a dataset, recipes, and lives that end before their time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hardviews.clock import Clock
from hardviews.data.pack import pack
from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import load
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.runs.where import Where
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.train.loader import LoaderConfig
from hardviews.train.loop import pretrain
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.recipe import Recipe, Training
from hardviews.train.trainer import StepReport, Trainer
from hardviews.views.augmentation import Augmentation
from tests.data.helpers import Noise

SAMPLES, BATCH, GROUP = 90, 16, 4
STEPS = SAMPLES // BATCH  # an epoch; ten samples fill no batch

# Metrics of the speed and the starts of a run, not of its computation.
TIMES = (
    *("images_per_second", "data_wait", "restarts", "world_size"),
    *("checkpoint_stall", "checkpoint_seconds", "checkpoint_failures", "monitor_stall"),
)


def packed(folder: Path, samples: int = SAMPLES) -> str:
    """Pack noise into a few shards; return their folder."""
    pack(Noise(samples), str(folder), shard_bytes=40_000)
    return str(folder)


def simclr(epochs: int = 2, **training: Any) -> Recipe:
    """SimCLR with hard views on a network with BatchNorm, under SGD with momentum."""
    view = Augmentation(size=16, scale=(0.3, 1.0), blur=0.0)
    return Recipe(
        "simclr",
        SimCLRConfig(hidden=32, output=16, temperature=0.5, view=view),
        Backbone("test_resnet"),
        HardViews(4),
        Training(
            **{"epochs": epochs, "batch": BATCH, "group": GROUP, "checkpoint_steps": 3, "log_steps": 2} | training
        ),
        Optimizer("momentum", learning_rate=0.1),
        Schedule(warmup=0.1),
        LoaderConfig(workers=0),
        monitor=MonitorConfig(steps=0),
    )


def everything(epochs: int = 2, **training: Any) -> Recipe:
    """SimSiam under hard views, then attacks with statistics of their own in every second step, and CutMix; AdamW with
    gradients cut and a weight decay that rises.
    """
    mixed = Sum((1.0, Clean()), (0.5, Adversarial(every=2)), (0.5, CutMix()))
    recipe = simclr(epochs, **training)
    view = replace(recipe.method.view, grayscale=0.2)  # type: ignore[attr-defined]
    return replace(
        recipe,
        name="everything",
        method=SimSiamConfig(width=32, bottleneck=8, view=view),
        backbone=Backbone("test_resnet", drop_path=0.1),
        strategy=Chain(HardViews(4), mixed),
        optimizer=Optimizer("adamw", learning_rate=0.01, weight_decay=0.05, decay_biases=False, clip=1.0),
        schedule=Schedule(warmup=0.1, start=0.1, final_weight_decay=0.4),
    )


class Killed(BaseException):
    """The process would be gone now."""


@contextmanager
def dying(step: int) -> Iterator[None]:
    """Inside, a run ends without notice in the middle of a step, its weights changed and nothing saved of it."""
    original = Trainer.step

    def deadly(self: Trainer, raws: Any, clock: Clock, *flags: bool) -> StepReport:
        report = original(self, raws, clock, *flags)
        if clock.step == step:
            raise Killed
        return report

    Trainer.step = deadly  # type: ignore[method-assign]
    try:
        yield
    except Killed:
        pass
    finally:
        Trainer.step = original  # type: ignore[method-assign]


def train(recipe: Recipe, data: str, folder: Path, dies: tuple[int, ...] = (), accept: bool = False) -> Path:
    """Run a recipe to its end, through deaths at these steps; return the output."""
    where = Where(data, str(folder), str(folder.parent / "project"), accept)
    for step in dies:
        with dying(step):
            pretrain(recipe, where)
            raise AssertionError(f"step {step} was not reached")
    pretrain(recipe, where)
    return folder


def rows(output: Path) -> list[dict[str, Any]]:
    """Return the history without metrics that depend on the clock."""
    lines = (output / "history.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def losses(output: Path) -> list[float]:
    """Return the loss of every report."""
    return [row["loss"] for row in rows(output)]


def weights(output: Path) -> str:
    """Return the digest of the exported encoder."""
    return load(output).digest
