"""Cost of monitoring with its pictures: its share of a training's time, at the default interval.

    python benchmarks/monitoring.py [--recipe photos ...] [--epochs 100] [--rounds 5] [--steps 20]

Packs photographs (labelled tiles, train and test), and for each recipe trains in rounds. A round is some steps, then a
measurement of health, k-NN and few-shot, and its pictures, all timed. A recipe runs twice: with labelled images and
without. The first measurement decodes its images, the others find them in memory. The share of a whole run is

    measuring / (measuring + steps x median step),
    measuring = first measurement + others x median + pictures x median,

with as many measurements, pictures and steps as a run of so many epochs has. Pictures are drawn and written beside the
steps of a training. Here the program waits for them, so their time counts in full. Steps and measurements alternate, so
other work on the machine slows both. Target: below 2 %.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

# As the command line does: threads that spin take the cores from whoever else uses them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from hardviews.clock import Calendar
from hardviews.data.pack_command import Packing
from hardviews.data.reader import Reader
from hardviews.recipes import recipe_named
from hardviews.tracking.image_files import write_picture
from hardviews.tracking.mlflow_run import NullRun
from hardviews.train.epoch import epoch_samples
from hardviews.train.feature_pictures import FeaturePictures
from hardviews.train.feed import Feed
from hardviews.train.loader import LoaderConfig
from hardviews.train.monitor import Monitor
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.sight import Sight
from hardviews.train.trainer import Trainer
from hardviews.world import World

TARGET = 0.02


class Written(NullRun):
    """Writes pictures as a run does, and keeps none."""

    def log_image(self, picture: Any, key: str, step: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_picture(picture, Path(folder), key, step, 0)


def cost(name: str, data: str, labelled: bool, options: argparse.Namespace) -> float:
    """Train and measure in turn; print the times and return the share of a whole run."""
    recipe = recipe_named(name)
    recipe = replace(
        recipe,
        training=replace(recipe.training, epochs=options.epochs),
        loader=LoaderConfig(workers=0),
        monitor=MonitorConfig(data=data if labelled else None),
    )
    training = recipe.training
    world = World(0, 1, recipe.precision.choose_device(0))
    reader = Reader(f"{data}/train", recipe.loader.reader)
    calendar = Calendar(training.seed, training.batch, epoch_samples(reader, training), training.epochs)
    trainer = Trainer(recipe, world)
    trainer.objective.method.allocate(len(reader))
    monitor = Monitor(recipe.monitor, recipe.backbone, trainer.objective, reader, calendar, world)
    feed = Feed(recipe, reader, calendar, trainer.objective, world)
    total = calendar.step(calendar.total)
    measurements = sum(monitor.due(step) for step in range(total + 1))

    pictures = FeaturePictures(Written(), calendar.total)
    interval = monitor.every * training.batch
    drawn = sum(
        monitor.due(step) and pictures.due(min(step * training.batch, calendar.total), interval)
        for step in range(total + 1)
    )

    began = time.perf_counter()
    monitor.measure()
    first = time.perf_counter() - began
    steps, others, drawing = [], [], []
    progress = 0
    with closing(feed.run(0)) as batches:
        for _ in range(options.rounds):
            for _ in range(options.steps):
                clock = calendar.at(progress)
                began = time.perf_counter()
                if not calendar.consumed(progress):
                    trainer.objective.method.begin_epoch(clock, lambda clock=clock: feed.epoch(clock))
                trainer.step(list(islice(batches, training.accumulate)), clock, stop=False)
                steps.append(time.perf_counter() - began)
                progress += training.batch
            seen: list[Sight] = []
            began = time.perf_counter()
            monitor.measure(seen.append)
            others.append(time.perf_counter() - began)
            began = time.perf_counter()
            with torch.no_grad():
                pictures.look(seen[0], progress)
            pictures.finish()
            drawing.append(time.perf_counter() - began)
    step, other, picture = (statistics.median(times) for times in (steps, others, drawing))
    # Matplotlib is imported for the first pictures.
    measuring = first + (measurements - 1) * other + drawing[0] + (drawn - 1) * picture
    share = measuring / (measuring + total * step)
    print(
        f"{name}, {'health, k-NN and few-shot' if labelled else 'health'}: {len(monitor.specimens)} images every "
        f"{monitor.every} of {total} steps; a step {1e3 * step:.0f} ms, a measurement {1e3 * other:.0f} ms (the first "
        f"one {1e3 * first:.0f} ms), its pictures {1e3 * picture:.0f} ms (the first ones {1e3 * drawing[0]:.0f} ms); "
        f"{measurements} measurements, {drawn} with pictures, take {share:.2%} of the time"
    )
    return share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", nargs="+", default=["photos", "photos_simsiam"])
    for name, default in (("epochs", 100), ("rounds", 5), ("steps", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        Packing("photographs", f"{folder}/shards").run()
        shares = [
            cost(name, f"{folder}/shards", labelled, options) for name in options.recipe for labelled in (True, False)
        ]
    print(f"largest share {max(shares):.2%} (target: below {TARGET:.0%})")
    return 0 if max(shares) < TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
