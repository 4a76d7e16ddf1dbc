"""How much of the hardness the cheap choice keeps, at the published sizes of views and candidates.

    python benchmarks/recovered.py [--packages FOLDER] [--cases simsiam simclr dino ibot] [--steps 120] [--batch 32]
    python benchmarks/recovered.py [--packages FOLDER] --cases simsiam simclr --candidates 4 --small 64

Trains the published `_hvs_cheap` recipes (views of 224 pixels, candidates scored at 64) on smaller networks of the same
kind, on tiles of photographs: a ResNet-18 and a ViT-Ti/16. In every audited step the exact choice among the same
candidates is made too. The recovered share is a / b. Here a is the exact loss of the chosen views less the mean of all,
and b is the loss of the hardest views less the mean of all. Prints it for the beginning, the middle and the end of the
training: an hour or two on two cores.

The column `of four` is a / c. Here c is the gain of an exact choice among four of the candidates: the mean over all
sets of four. It is the column to judge by if the cheap choice has more candidates than the exact one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from comparing.images import write
from hardviews.batch import Selection
from hardviews.models.backbones import Backbone
from hardviews.recipes import recipe_named
from hardviews.runs.where import Where
from hardviews.strategies.audit import compared
from hardviews.strategies.hard_views import HardViews
from hardviews.train.loop import pretrain
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe

# Recipe, network, and the share of hardness that is aimed at.
CASES = {
    "simsiam": ("simsiam_r50_100_hvs_cheap", "resnet18", 0.80),
    "simclr": ("simclr_r50_100_hvs_cheap", "resnet18", 0.80),
    "dino": ("dino_vits16_100_hvs_cheap", "vit_tiny_patch16_224", 0.92),
    "ibot": ("ibot_vits16_800_hvs_cheap", "vit_tiny_patch16_224", 0.92),
}
STAGES = ("begin", "middle", "end")
TILE, STRIDE = 256, 64
_METRICS = tuple(f"selection/{name}" for name in ("agreement", "recovered", "gain", "gain_of_four"))
HARDVIEWS = Path(sys.executable).with_name("hardviews")


def with_four(selection: Selection, exact_AB: Tensor) -> dict[str, Tensor]:
    """Compare a choice with the exact one, and with exact choices among four of its candidates."""
    found, table_AS = compared(selection, exact_AB), selection.table
    rivals_S = (table_AS != table_AS[0]).any(0)  # slots that have more candidates than one
    rows = [set(row) for row in table_AS[:, rivals_S].tolist()]
    numbers = sorted(set().union(*rows))
    if len(numbers) <= 4:
        return {**found, "selection/gain_of_four": found["selection/possible_gain"]}
    hardest = []
    for four in combinations(numbers, 4):
        inside = [number for number, row in enumerate(rows) if row <= set(four)]
        hardest.append(exact_AB[inside].amax(0))
    gain_B = torch.stack(hardest).mean(0) - exact_AB.mean(0)
    return {**found, "selection/gain_of_four": gain_B}


def recipe(case: str, images: int, steps: int, batch: int, audit: int, **other: int) -> Recipe:
    """Return the recipe of a case for a small network, small batches and so many steps.

    other: settings of its strategy.
    """
    name, network, _ = CASES[case]
    made = recipe_named(name)
    assert isinstance(made.strategy, HardViews)
    epochs = max(1, round(steps * batch / images))
    return replace(
        made,
        name=f"{case}-recovered",
        backbone=Backbone(network),
        strategy=replace(made.strategy, audit=audit, **other),
        training=replace(made.training, epochs=epochs, batch=batch, group=batch, accumulate=1, log_steps=audit),
        precision=Precision("cpu", "float32"),
        loader=replace(made.loader, workers=0),
        monitor=MonitorConfig(steps=0),
        experiment="recovered",
    )


def stages(history: Path) -> dict[str, dict[str, float]]:
    """Return by stage the mean of each metric over the audited steps of a third of the training."""
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    rows = [row for row in rows if all(name in row for name in _METRICS)]
    thirds = [rows[len(rows) * n // 3 : len(rows) * (n + 1) // 3] for n in range(3)]
    return {
        stage: {name: sum(row[name] for row in third) / len(third) for name in _METRICS}
        for stage, third in zip(STAGES, thirds, strict=True)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, help="folder with the packages that are not installed")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES)
    for name, default in (("steps", 120), ("batch", 32), ("audit", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--candidates", type=int, help="number of candidates, if other than the recipe's")
    parser.add_argument("--small", type=int, help="side in pixels of scoring, if other than the recipe's")
    parser.add_argument("--folder", type=Path, default=Path(".hardviews/recovered"), help="of images and runs")
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    data, images = arguments.folder / "data", arguments.folder / "images"
    if not (data / "train" / "index.json").exists():
        shutil.rmtree(images, ignore_errors=True)
        write("photographs", arguments.packages, images, tile=TILE, stride=STRIDE)
        words = [str(HARDVIEWS), "pack", "--source", str(images), "--out", str(data), "--overwrite"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    count = sum(1 for file in (images / "train").rglob("*.png"))
    below = False
    titles = [f"{stage}: recovered, of four (agreement)" for stage in STAGES]
    print("| method | network | candidates | aimed at | " + " | ".join(titles) + " |")
    print("|---|---|---|---|" + "---|" * len(STAGES))
    for case in arguments.cases:
        _, network, aim = CASES[case]
        asked = {"candidates": arguments.candidates, "size": arguments.small}
        other = {name: value for name, value in asked.items() if value}
        made = recipe(case, count, arguments.steps, arguments.batch, arguments.audit, **other)
        assert isinstance(made.strategy, HardViews)
        choice = f"{made.strategy.candidates} at {made.strategy.size}"
        run = arguments.folder / f"{case}-{choice.replace(' ', '-')}-{arguments.steps}-{arguments.batch}"
        with mock.patch("hardviews.strategies.audit.compared", with_four):
            pretrain(made, Where(str(data), str(run), project=str(arguments.folder / "project")))
        cells = []
        for found in stages(run / "history.jsonl").values():
            agreement, recovered, gain, four = (found[name] for name in _METRICS)
            cells.append(f"{100 * recovered:.0f} %, {100 * gain / four:.0f} % ({agreement:.2f})")
            below |= gain < aim * four
        row = [case, network, choice, f"{100 * aim:.0f} %", *cells]
        print("| " + " | ".join(row) + " |", flush=True)
    return int(below)


if __name__ == "__main__":
    sys.exit(main())
