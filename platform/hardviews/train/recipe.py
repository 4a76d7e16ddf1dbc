"""A recipe: the complete configuration of a pretraining run, typed."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hardviews.checked import added, as_before, at_least, require, within
from hardviews.errors import UserError
from hardviews.methods.method import MethodConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.tracking.flatten import flatten
from hardviews.train.loader import LoaderConfig
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.precision import Precision

# Settings that do not change the weights: a run may go on with other values.
_NEUTRAL = (
    "name",
    "experiment",
    "monitor",
    "loader.workers",
    "loader.ahead",
    "loader.reader.ahead",
    "loader.reader.on_corrupt",
    "loader.reader.most_corrupt",
    "training.keep",
    "training.log_steps",
    "training.checkpoint_seconds",
    "training.checkpoint_steps",
    "training.activation_checkpointing",
    "training.compile",
)
# Bound of counts: so many epochs of 2^32 samples fit the 63 bits in which checkpoints hold numbers of samples.
_MOST = 10**9


@dataclass(frozen=True)
class Training:
    """Length and portions of a training.

    Attributes:
        epochs: passes over the dataset.
        batch: the global batch, the same at any number of processes.
        group: number of samples that no rank boundary divides.
        accumulate: micro-batches a step.
        seed: seed of weights, order and views.
        checkpoint_seconds: seconds between checkpoints by the clock; 0 ignores the clock.
        checkpoint_steps: steps between checkpoints at counted steps; 0 does not count steps.
        keep: number of checkpoints to keep; with 1 there is no earlier one if it is damaged.
        log_steps: steps between metrics.
        activation_checkpointing: keep only the input of each block of a vision transformer, and compute the rest again
            in the backward pass: less memory, about a third more FLOPs, the same weights.
        compile: compile the networks by torch.compile, for GPUs: the first steps take minutes, and results differ by
            rounding.
        ema: decay of a moving average of the weights, which is exported in their place; 0 exports the last weights.
            timm and ConvNeXt fine-tune with 0.9998 and 0.9999, for runs of several ten thousand steps.
        frozen_stages: keep the stem and so many stages of the backbone as they are (blocks of a transformer): no
            gradient, BatchNorm by its running statistics. 0 freezes the stem alone, -1 nothing.
    """

    epochs: int = 100
    batch: int = 256
    group: int = 32
    accumulate: int = 1
    seed: int = 0
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int = 0
    keep: int = 2
    log_steps: int = 20
    activation_checkpointing: bool = added(False)
    compile: bool = added(False)
    ema: float = added(0.0)
    frozen_stages: int = added(-1)

    def __post_init__(self) -> None:
        """Refuse counts that are none."""
        require(
            self,
            "training",
            epochs=within(1, _MOST),
            batch=within(1, _MOST),
            group=within(1, _MOST),
            accumulate=within(1, _MOST),
            seed=within(0, 2**32 - 1),
            checkpoint_seconds=at_least(0).note("0 for never"),
            checkpoint_steps=within(0, _MOST).note("0 for never"),
            keep=within(1, _MOST),
            log_steps=within(1, _MOST),
            ema=at_least(0, below=1).note("0 for none"),
            frozen_stages=within(-1, _MOST).note("-1 for none"),
        )


@dataclass(frozen=True)
class Recipe:
    """The complete configuration of a training.

    Attributes:
        name: name of the recipe.
        method: method of `hardviews.methods`, with its loss.
        backbone: network that is pretrained.
        strategy: strategy of `hardviews.strategies` that chooses, mixes or attacks views.
        training: length and portions.
        optimizer: optimizer of the weights.
        schedule: schedule of the learning rate.
        loader: making of batches.
        precision: device and number format.
        monitor: measurements of the representation during training.
        experiment: MLflow experiment that the run belongs to.
    """

    name: str
    method: MethodConfig
    backbone: Backbone = field(default_factory=Backbone)
    strategy: Strategy = field(default_factory=Clean)
    training: Training = field(default_factory=Training)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    precision: Precision = field(default_factory=Precision)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    experiment: str = "hardviews"

    def __post_init__(self) -> None:
        """Refuse numbers that are not finite, which would spoil the loss, and an empty experiment."""
        if not self.experiment.strip():
            raise UserError("experiment is empty; name the MLflow experiment that the run belongs to.")
        for name, number in _numbers(self, ""):
            if not math.isfinite(number):
                raise UserError(f"{name} is {number}; it must be a finite number.")
        schedule, peak = self.schedule, self.optimizer.peak(self.training.batch)
        if schedule.absolute and max(schedule.start, schedule.final) > peak:
            raise UserError(
                f"schedule.start is {schedule.start} and schedule.final {schedule.final}, above the peak of "
                f"{peak:.3g} that optimizer.learning_rate gives for batches of {self.training.batch}: the rate would "
                "fall in the warm-up, or rise after it. Lower them too, or raise the rate."
            )
        if schedule.final_weight_decay and not self.optimizer.weight_decay:
            raise UserError(
                f"schedule.final_weight_decay is {schedule.final_weight_decay}, but with optimizer.weight_decay=0 no "
                "weight is decayed: give it a number above 0, or leave the final one out."
            )

    def settings(self) -> dict[str, str]:
        """Return every setting that the weights depend on, by its name on the command line."""
        new = set(_as_before(self, ""))
        return {
            key: value
            for key, value in flatten(self).items()
            if key not in _NEUTRAL
            and key not in new
            and not key.endswith(".audit")
            and not key.startswith(("loader.reader.cache", "monitor."))
        }

    def digest(self) -> str:
        """Return a digest of all settings that the weights depend on."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()[:16]


def _as_before(value: Any, name: str) -> Iterator[str]:
    """Yield the names of later settings whose value keeps the former behaviour, as `flatten` names them."""
    if is_dataclass(value):
        old = as_before(value)
        for part in fields(value):
            key = f"{name}.{part.name}" if name else part.name
            if part.name in old:
                yield key
            yield from _as_before(getattr(value, part.name), key)
    elif isinstance(value, tuple | list):
        for number, part in enumerate(value):
            yield from _as_before(part, f"{name}.{number}")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Yield the settings that are floats, with their names on the command line."""
    if isinstance(value, float):
        yield name, value
    elif is_dataclass(value):
        for part in fields(value):
            yield from _numbers(getattr(value, part.name), f"{name}.{part.name}" if name else part.name)
    elif isinstance(value, tuple | list):
        for number, part in enumerate(value):
            yield from _numbers(part, f"{name}.{number}")
