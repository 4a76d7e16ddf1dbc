"""Cost of choosing hard views: operations of a step at the published sizes, and time on this machine.

    python benchmarks/choosing.py
    python benchmarks/choosing.py --time [--batch 16] [--size 224] [--small 48] [--candidates 8] [--rounds 5]

Counts a whole step by torch's flop counter on the meta device: forward, backward, heads and losses. Rendering from
canvases of 512 pixels is counted apart. The cases are the plain recipe, the exact choice among four candidates and the
cheap one. iBOT is counted on the CPU, since the number of masked patches is data. Prints the ratio to the plain step.
With `--time` it times SimSiam on a ResNet-18, with the candidates of its `_hvs_cheap` recipes: eight at 48 pixels.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from unittest import mock

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from hardviews.batch import Batch, Samples, View
from hardviews.clock import Clock
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.models.backbones import Backbone
from hardviews.objective.objective import Objective
from hardviews.recipes import recipe_named
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.loader import LoaderConfig
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe, Training
from hardviews.views.augmentation import mocov2
from hardviews.views.halved import Halved
from hardviews.views.params import draw
from hardviews.views.pixels import Canvas, Crops, Pixels
from stepping.pictures import on_canvases
from stepping.stepper import Stepper

EXACT, SHARED = HardViews(4), HardViews(4, noise="training")
# Method, plain recipe, exact strategy, and the highest ratios that are aimed at: exact, cheap.
CASES = (
    ("SimSiam, ResNet-50", "simsiam_r50_100", EXACT, None, 1.08),
    ("SimCLR, ResNet-50", "simclr_r50_100", EXACT, None, 1.08),
    ("MoCo v2, ResNet-50", "mocov2_r50_200", EXACT, None, 1.20),
    ("DINO, ViT-S/16, noise of its own", "dino_vits16_100", EXACT, None, 1.05),
    ("DINO, ViT-S/16, noise of training", "dino_vits16_100", SHARED, 1.50, 1.05),
    ("iBOT, ViT-S/16, noise of training", "ibot_vits16_800", SHARED, None, 1.05),
)
CANVAS, TIME = 512, 1.15


def operations(recipe: Recipe, strategy: Strategy, device: str, images: int, rendered: bool) -> float:
    """Count the operations of a step, for each image."""
    torch.manual_seed(0)
    with torch.device(device):
        method = recipe.method.build(recipe.backbone.build(), recipe.backbone.num_features)
        objective = Objective(method, strategy).train()
    position = torch.arange(images)
    clock = Clock(0, 0, 0, 0, 10**6)
    canvas = torch.zeros(images, 3, CANVAS, CANVAS, dtype=torch.uint8, device=device)
    views, copies = {}, None
    for slot in objective.plan.candidates:
        augmentation, number = objective.plan.pool(slot.pool).augmentation, objective.plan.view_number(slot)
        rows = torch.from_numpy(
            draw(augmentation, 0, 0, position.numpy(), number, np.full(images, 375), np.full(images, 500))
        ).to(device)
        copies = copies or Halved(canvas, rows)
        source: Pixels = Canvas(canvas, rows, augmentation, copies)
        if not rendered:
            side = augmentation.size
            source = Crops(torch.zeros(images, 3, side, side, device=device), augmentation.normalisation)
        mask = method.mask(slot, number, clock, position)
        views[slot] = View(slot, source, augmentation.normalisation, rows, mask=mask)
    batch = Batch(views, clock, Samples(position, position), group=images)
    # torch has no autocast for a device without numbers, and none is on.
    with mock.patch("torch.autocast", lambda *_, **__: nullcontext()), FlopCounterMode(display=False) as counter:
        objective(batch, images).total.backward()
    return int(counter.get_total_flops()) / images


def count() -> bool:
    """Print the table of operations; return whether all ratios are as low as aimed at."""
    reached = True
    print(f"{'operations of a step, as a multiple of the plain one':52} GFLOP  exact  cheap   with rendering")
    for title, name, exact, exact_aim, cheap_aim in CASES:
        recipe = recipe_named(name)
        device, images = ("cpu", 1) if name.startswith("ibot") else ("meta", 2)
        strategies = (Clean(), exact, recipe_named(f"{name}_hvs_cheap").strategy)
        apart = [operations(recipe, strategy, device, images, False) for strategy in strategies]
        whole = [operations(recipe, strategy, device, images, True) for strategy in strategies]
        ratios = [value / apart[0] for value in apart[1:]]
        met = ratios[1] <= cheap_aim and (exact_aim is None or ratios[0] <= exact_aim)
        reached &= met
        aims = f"cheap <= {cheap_aim:.2f}" + (f", exact <= {exact_aim:.2f}" if exact_aim else "")
        print(
            f"{title:52} {apart[0] / 1e9:5.1f}  {ratios[0]:5.3f}  {ratios[1]:5.3f}   {whole[1] / whole[0]:5.3f}  "
            f"{whole[2] / whole[0]:5.3f}   {aims}: {'yes' if met else 'NO'}",
            flush=True,
        )
    return reached


class Timed(Stepper):
    """A step of SimSiam on one batch in memory, rendered on the device."""

    def __init__(self, strategy: Strategy, batch: int, size: int) -> None:
        recipe = Recipe(
            "choosing",
            SimSiamConfig(view=mocov2(size)),
            Backbone("resnet18"),
            strategy,
            Training(batch=batch, group=batch),
            loader=LoaderConfig(renderer="device", canvas=2 * size),
            precision=Precision("cpu", "float32"),
        )
        noise = np.random.default_rng(0).integers(0, 256, (batch, 2 * size, 2 * size, 3), dtype=np.uint8)
        super().__init__(recipe, lambda plan: on_canvases(plan, list(noise), 2 * size), torch.device("cpu"))

    def seconds(self) -> float:
        """Take a step and return the processor time of it, which other processes do not change much."""
        began = time.process_time()
        self.step()
        return time.process_time() - began


def measure(batch: int, rounds: int, size: int, small: int, candidates: int) -> bool:
    """Print the time of steps, in alternating rounds; return whether the cheap one is as fast as aimed at."""
    cheap = HardViews(candidates, size=small)
    steppers = {name: Timed(s, batch, size) for name, s in (("plain", Clean()), ("exact", EXACT), ("cheap", cheap))}
    for stepper in steppers.values():
        stepper.seconds()  # the first step also warms up
    ratios: dict[str, list[float]] = {"exact": [], "cheap": []}
    for number in range(rounds):
        order = list(steppers) if number % 2 == 0 else list(reversed(steppers))
        took = {name: steppers[name].seconds() for name in order}
        for name, values in ratios.items():
            values.append(took[name] / took["plain"])
        print(f"round {number}: " + ", ".join(f"{name} {1e3 * took[name]:.0f} ms" for name in steppers), flush=True)
    median = {name: statistics.median(values) for name, values in ratios.items()}
    low, high = min(ratios["cheap"]), max(ratios["cheap"])
    print(f"SimSiam, ResNet-18, batch {batch}, {size} pixels: exact {median['exact']:.3f} times the plain step,")
    spread = f"{low:.3f} to {high:.3f}; target: at most {TIME:.2f}"
    print(f"{candidates} scored at {small} pixels {median['cheap']:.3f} ({spread})")
    return median["cheap"] <= TIME


# Of a timing alone: name, default and help.
OPTIONS = (
    ("batch", 16, "images of a step"),
    ("size", 224, "side in pixels of the views that are trained on"),
    ("small", 48, "side in pixels at which the cheap choice scores views, at most --size"),
    ("candidates", 8, "number of candidates of the cheap choice"),
    ("rounds", 5, "number of times that each kind of step is timed"),
)


def read(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; end the process with a message if they do not fit each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", action="store_true", help="time steps in place of counting operations")
    for name, default, text in OPTIONS:
        parser.add_argument(f"--{name}", type=int, help=f"{text}; only with --time (default: {default})")
    arguments = parser.parse_args(words)
    for name, default, _ in OPTIONS:
        value = getattr(arguments, name)
        if value is not None and not arguments.time:
            parser.error(f"--{name} is for --time alone: operations are counted at the published sizes. Add --time.")
        if value is not None and value < 1:
            parser.error(f"--{name} is {value}; it must be at least 1.")
        setattr(arguments, name, default if value is None else value)
    if arguments.small > arguments.size:
        parser.error(f"--small is {arguments.small}, larger than --size {arguments.size}: choose at most that.")
    return arguments


def main() -> int:
    arguments = read()
    torch.set_num_threads(1)
    machine = platform.processor() or "CPU"
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} thread, torch {torch.__version__}")
    if arguments.time:
        return (
            0
            if measure(arguments.batch, arguments.rounds, arguments.size, arguments.small, arguments.candidates)
            else 1
        )
    return 0 if count() else 1


if __name__ == "__main__":
    sys.exit(main())
