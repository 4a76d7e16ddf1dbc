"""An estimate as a table and as JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hardviews.estimate.config import Estimate
from hardviews.estimate.fake_step import StepCost
from hardviews.estimate.gpus import gpu_named
from hardviews.estimate.units import MEMORIES, TIMES, unit_for
from hardviews.train.recipe import Recipe

_GB, _TERA = 1e9, 1e12


@dataclass(frozen=True)
class Column:
    """A way to choose and harden views, in a few words, and its cost."""

    strategy: str
    cost: StepCost


@dataclass(frozen=True)
class Refused:
    """A way that the recipe's method refuses, and the reason."""

    strategy: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The cost of a recipe under each way, by its column; `samples` are the largest micro-batch of a GPU."""

    recipe: Recipe
    config: Estimate
    samples: int
    columns: Mapping[str, Column | Refused]

    @property
    def share(self) -> float:
        """Return the share of the GPUs' peak that the estimate assumes."""
        return self.config.share_for(self.recipe.backbone)

    @property
    def slowest(self) -> int:
        """Return the number of images of a step on the GPU that has most of them, for which the others wait."""
        return self.samples * self.recipe.training.accumulate

    def hours(self, cost: StepCost) -> float:
        """Return the hours of the whole training: of its whole steps on the slowest GPU."""
        training, speed = self.recipe.training, gpu_named(self.config.gpu).tflops * _TERA * self.share
        steps = self.config.images // training.batch * training.epochs
        return cost.flops * self.slowest * steps / speed / 3600

    def text(self) -> str:
        """Return the table, with the assumptions below it."""
        rows = [["", *self.columns]] + [
            [label, *(self._cell(column, show) for column in self.columns.values())] for label, show in self._rows()
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self._title(), "", *lines, "", *self._notes()])

    def json(self) -> str:
        """Return the same numbers in base units: bytes, FLOPs, hours."""
        config = self.config
        assumed = {
            "recipe": self.recipe.name,
            "epochs": self.recipe.training.epochs,
            "images": config.images,
            "gpu": config.gpu,
            "gpus": config.gpus,
            "device_of_recipe": self.recipe.precision.device,
            "share_of_peak": self.share,
            "images_per_gpu": self.samples,
            "images_per_step_of_slowest_gpu": self.slowest,
            "bytes_read_per_epoch": round(config.images * config.bytes_per_image),
        }
        columns = {name: self._numbers(column) for name, column in self.columns.items()}
        return json.dumps(assumed | {"columns": columns}, indent=2)

    def _numbers(self, column: Column | Refused) -> dict[str, Any]:
        if isinstance(column, Refused):
            return {"strategy": column.strategy, "refused": column.reason}
        cost = column.cost
        return {
            "strategy": column.strategy,
            "forward_passes_per_image": cost.forward,
            "backward_passes_per_image": cost.backward,
            "flops_per_image": cost.flops,
            "trained_parameters": cost.trained,
            "momentum_parameters": cost.momentum,
            "memory_bytes_per_gpu": cost.memory,
            "hours": self.hours(cost),
        }

    def _rows(self) -> list[tuple[str, Callable[[StepCost], str]]]:
        plain = self.columns.get("plain")
        base = plain.cost.flops if isinstance(plain, Column) else 0
        read = self.config.images * self.config.bytes_per_image / _GB
        costs = [column.cost for column in self.columns.values() if isinstance(column, Column)]
        memory = unit_for(MEMORIES, (cost.memory for cost in costs))
        time = unit_for(TIMES, (self.hours(cost) * 3600 for cost in costs))
        return [
            ("forward passes per image", lambda cost: f"{cost.forward:.2f}"),
            ("backward passes per image", lambda cost: f"{cost.backward:.2f}"),
            ("GFLOP per image", lambda cost: f"{cost.flops / 1e9:.4g}"),
            ("FLOPs, plain is 1", lambda cost: f"{cost.flops / base:.2f}" if base else "-"),
            ("trained parameters, millions", lambda cost: f"{cost.trained / 1e6:.1f}"),
            ("momentum encoder, millions", lambda cost: f"{cost.momentum / 1e6:.1f}"),
            (f"memory of a GPU, {memory.name}", lambda cost: memory.text(cost.memory)),
            ("read per epoch, GB", lambda cost: f"{read:.4g}"),
            (time.name, lambda cost: time.text(self.hours(cost) * 3600)),
        ]

    def _cell(self, column: Column | Refused, show: Callable[[StepCost], str]) -> str:
        return "refused" if isinstance(column, Refused) else show(column.cost)

    def _title(self) -> str:
        recipe, config = self.recipe, self.config
        return (
            f"{recipe.name}: {recipe.backbone.name}, {recipe.training.epochs} epochs of {config.images:,} images, "
            f"batches of {recipe.training.batch}, on {config.gpus} x {config.gpu}"
        )

    def _notes(self) -> list[str]:
        gpu = gpu_named(self.config.gpu)
        notes = [f"{name}: {column.strategy}" for name, column in self.columns.items() if name != "plain"]
        if "cheap HVS" not in self.columns:
            notes.append("There is no cheap HVS: smaller views would leave the network a map of a single cell.")
        notes += [
            "Passes: a view counts by its share of the largest view's area.",
            f"Time: at {self.share:g} of the peak of {gpu.tflops:g} TFLOP/s (--share); without the loader and the "
            "rendering of views.",
            f"Memory: for {self.samples} images a GPU, by the sizes of tensors; without the allocator's reserve, the "
            "workspaces of libraries and the rendering of views.",
        ]
        if self.slowest * self.config.gpus != self.recipe.training.batch:
            notes.append(self._uneven())
        if self.recipe.precision.device == "cpu":
            notes.append(
                "Device: the recipe trains on the CPU (precision.device is cpu), which has no estimate. The table is "
                f"for {self.config.gpus} x {self.config.gpu}, as with --precision.device auto."
            )
        if self.recipe.training.compile:
            notes.append(
                "training.compile is not counted: the operations stay the same, but compiled networks differ in "
                "time and memory. Measure a step, and give the --share that it reaches."
            )
        for name, column in self.columns.items():
            if isinstance(column, Refused):
                notes.append(f"{name} is refused: {column.reason}")
            elif column.cost.memory > gpu.gigabytes * _GB:
                notes.append(
                    f"{name} does not fit the {gpu.gigabytes:g} GB of a GPU: use more GPUs, or set {self._smaller()}."
                )
        return notes

    def _uneven(self) -> str:
        """Return that the GPUs have unequal shares, and the least number of GPUs that take as long."""
        training, gpus = self.recipe.training, self.config.gpus
        groups = training.batch // training.accumulate // training.group
        fewest = -(-groups * training.group // self.samples)
        line = (
            f"Shares: {groups} groups of {training.group} images do not divide evenly among {gpus} GPUs. The slowest "
            f"has {self.slowest} of {training.batch} images in a step, and the time is the slowest GPU's."
        )
        return line + (f" {fewest} GPU{'s' * (fewest > 1)} would take as long." if fewest < gpus else "")

    def _smaller(self) -> str:
        """Return the settings of the recipe that take less memory."""
        training = self.recipe.training
        accumulate = f"--training.accumulate {2 * training.accumulate}"
        if training.activation_checkpointing or not self.recipe.backbone.is_transformer:
            return accumulate
        return f"--training.activation-checkpointing or {accumulate}"
