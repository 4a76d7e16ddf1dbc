"""Cost of the hard terms of HEXA_MoCo, counted at the published size, and strength of the cheap attack.

    python benchmarks/attacking.py [--strength] [--steps 60] [--time] [--rounds 5]

Counts the floating-point operations of a step, forward and backward, on the meta device: MoCo-v2, ResNet-50, 224
pixels, a queue of 65,536 keys, groups of 32 images. A plain step of MoCo-v2 is 1. With the cheap attack a step makes 10
passes in place of 4, and takes the pixel gradient of the first layer (0.7 % of a plain step). Targets: at most 2.51,
and 1.75 in turn.

`--strength` trains a small ResNet by MoCo on tiles of photographs, with the cheap attack, and compares the losses that
both attacks raise on images of the test part. `--time` times steps of the same small network, in alternating rounds.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from hardviews.batch import Batch, Samples, View
from hardviews.clock import Clock
from hardviews.data.photographs import Tiles, photographs
from hardviews.methods.moco import MoCoConfig
from hardviews.models.backbones import Backbone
from hardviews.models.held import HeldStatistics
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import mocov2
from hardviews.views.decode import decode
from hardviews.views.params import draw
from hardviews.views.pixels import Canvas, Crops
from hardviews.views.plan import Slot

GROUP = 32
FULL = Adversarial(measure=0)
CHEAP = Adversarial(branch="main", gradient="clean", measure=0)
#: Strategies by name, and the most that a step may cost; None if nothing is promised.
STRATEGIES: dict[str, tuple[Strategy, float | None]] = {
    "MoCo-v2": (Clean(), None),
    "full attack": (Sum((1, Clean()), (1, FULL), (1, CutMix()), average=True), None),
    "cheap attack": (Sum((1, Clean()), (1, CHEAP), (1, CutMix()), average=True), 2.51),
    "full attack, in turn": (Sum((1, Clean()), (2, InTurn(FULL, CutMix())), average=True), None),
    "cheap attack, in turn": (Sum((1, Clean()), (2, InTurn(CHEAP, CutMix())), average=True), 1.75),
}


class Operations(TorchDispatchMode):
    """Counts as FlopCounterMode does, whose hooks on modules refuse a backward pass inside a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def count() -> bool:
    """Print the operations of a step under each strategy; return whether all targets are met."""
    print("strategy               GFLOP an image   ratio   target")
    plain, right = 0.0, True
    for name, (strategy, target) in STRATEGIES.items():
        with torch.device("meta"):
            config = MoCoConfig()
            method = config.build(Backbone("resnet50", zero_residual=False).build(), 2048)
        objective = Objective(method, strategy).train()
        operations = []
        for step in range(2):
            pixels = {s: torch.empty(GROUP, 3, 224, 224, device="meta") for s in objective.plan.candidates}
            counter = Operations()
            # Autocast knows no meta device; without it nothing would be rounded either.
            with counter, patch("torch.autocast", lambda *_, **__: nullcontext()):
                objective(batch_of(objective, pixels, step), GROUP).total.backward()
            operations.append(counter.total / GROUP / 1e9)
        mean = statistics.mean(operations)
        plain = plain or mean
        met = target is None or round(mean / plain, 2) <= target
        right &= met
        wanted = "" if target is None else f"{target:.2f}"
        print(f"{name:22s} {mean:14.2f} {mean / plain:7.2f}   {wanted}{'' if met else '  MISSED'}")
    return right


def batch_of(objective: Objective, pixels: dict[Slot, Tensor], step: int) -> Batch:
    """Return normalised pixels as a batch."""
    samples = len(next(iter(pixels.values())))
    position = torch.arange(samples)
    views = {}
    for slot, tensor in pixels.items():
        normalisation = objective.plan.pool(slot.pool).augmentation.normalisation
        views[slot] = View(slot, Crops(tensor, normalisation), normalisation)
    clock = Clock(0, 0, step, step * samples, 1000 * samples)
    return Batch(views, clock, Samples(position, position), group=min(GROUP, samples))


def small(strategy: Strategy) -> Objective:
    """Return MoCo over a ResNet of one block a stage, with views of 32 pixels."""
    torch.manual_seed(0)
    network = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=0, channels=(32, 64, 128, 256))
    config = MoCoConfig(hidden=256, output=64, queue=1024, momentum=0.99, view=mocov2(32))
    return Objective(config.build(network, 256), strategy).train()


def canvases(tiles: Tiles, samples: int, seed: int) -> Tensor:
    """Return random tiles (B, 3, S, S) as uint8."""
    chosen = np.random.default_rng(seed).choice(len(tiles), samples, replace=False)
    return torch.stack([torch.from_numpy(decode(tiles.read(int(i)).data)).permute(2, 0, 1) for i in chosen])


def batches(objective: Objective, tiles: Tiles, samples: int, first: int, steps: int) -> Iterator[Batch]:
    """Yield batches of random views of random tiles."""
    for step in range(first, first + steps):
        canvas = canvases(tiles, samples, step)
        position = np.arange(samples) + step * samples
        pixels = {}
        for slot in objective.plan.candidates:
            augmentation = objective.plan.pool(slot.pool).augmentation
            number = objective.plan.view_number(slot)
            rows = draw(augmentation, 0, step, position, number, *np.full((2, samples), canvas.shape[-1]))
            pixels[slot] = Canvas(canvas, torch.from_numpy(rows), augmentation).pixels()
        yield batch_of(objective, pixels, step)


def train(objective: Objective, steps: int, samples: int = 64) -> None:
    """Train on random tiles by SGD with momentum, at a constant rate."""
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, 0.03, momentum=0.9, weight_decay=1e-4)
    for batch in batches(objective, photographs("train"), samples, 0, steps):
        optimizer.zero_grad()
        losses = objective(batch, samples)
        losses.total.backward()
        optimizer.step()
        objective.method.update(losses.encoded, batch.clock, losses.batch.samples)


def raised(objective: Objective, attack: Adversarial, batch: Batch, statistics_of: str) -> float:
    """Return by how much an attack raises the mean loss, under held statistics or those of each batch."""
    held = {slot: HeldStatistics("held" if statistics_of == "held" else "batch") for slot in batch.views}

    def loss(hard: dict[Slot, View]) -> float:
        views = {slot: replace(view, statistics=held[slot]) for slot, view in hard.items()}
        losses_PB, _ = objective.pairwise(replace(batch, hard=views), attack=True)
        return objective.reduce(losses_PB).mean().item()

    with objective.sharing():
        (term,) = attack(batch, objective)
        hard = dict(term.batch.hard)
        clean = {s: replace(v, source=Crops(batch.views[s].pixels(), v.normalisation)) for s, v in hard.items()}
        with torch.no_grad():
            return -loss(clean) + loss(hard)


def strength(steps: int) -> None:
    """Print the share of the full attack's effect that the cheap one keeps."""
    print(f"\nsmall ResNet, MoCo, {steps} steps of 64 tiles; loss raised by the cheap attack over that by the full one")
    print("branch        held statistics   as trained (statistics of the batch)")
    for branch in ("main", "adversarial"):
        attack = replace(CHEAP, branch=branch)
        objective = small(Sum((1, Clean()), (1, attack), (1, CutMix()), average=True))
        train(objective, steps)
        shares: dict[str, list[float]] = {"held": [], "batch": []}
        for batch in batches(objective, photographs("test"), 64, 10_000, 4):
            for kind, found in shares.items():
                cheap, full = (raised(objective, replace(attack, gradient=g), batch, kind) for g in ("clean", "own"))
                found.append(cheap / full)
        print(f"{branch:13s} {statistics.mean(shares['held']):15.2f}   {statistics.mean(shares['batch']):10.2f}")


def clocked(rounds: int) -> None:
    """Print the time of a step of the small network under each strategy, as a multiple of MoCo's."""
    print(f"\ntime of two steps, small ResNet, median of {rounds} alternating rounds, {os.cpu_count()} cores")
    steppers = {name: small(strategy) for name, (strategy, _) in STRATEGIES.items()}
    work = {name: list(batches(one, photographs("train"), 64, 0, 2)) for name, one in steppers.items()}
    taken: dict[str, list[float]] = {name: [] for name in steppers}
    for number in range(rounds + 1):
        for name, objective in steppers.items():
            began = time.process_time()
            for batch in work[name]:
                objective(batch, 64).total.backward()
            if number:  # the first round warms up
                taken[name].append(time.process_time() - began)
    for name, seconds in taken.items():
        ratios = [mine / plain for mine, plain in zip(seconds, taken["MoCo-v2"], strict=True)]
        print(f"{name:22s} {statistics.median(ratios):6.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strength", action="store_true")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    right = count()
    if arguments.strength:
        strength(arguments.steps)
    if arguments.time:
        clocked(arguments.rounds)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
