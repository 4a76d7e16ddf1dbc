"""A plain step of ours against a bare loop with the same network, views and loss, in alternating rounds.

    python benchmarks/step.py [--methods simsiam simclr ...] [--batch 32] [--size 64] [--steps 2] [--rounds 9]

The bare loops (`bare/`) are written as by hand: torch's BatchNorm, one loss, one optimizer. Both begin with
the same weights, see the same views (uint8, in memory) and must compute the same losses. Prints the median of the
rounds' ratios of time for each method (target: at most 1.02). Then it counts the passes of a SimSiam step with hard
views: scoring takes one forward pass a candidate, training the two views that were chosen.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bare.dino import DINO
from bare.loop import Loop
from bare.moco import MoCo
from bare.ours import Ours, recipe, views_of
from bare.simclr import SimCLR
from bare.simsiam import SimSiam
from bare.supervised import Supervised
from hardviews.strategies.hard_views import HardViews

TARGET = 1.02
LOOPS: Mapping[str, type[Loop]] = {
    "simsiam": SimSiam,
    "simclr": SimCLR,
    "moco": MoCo,
    "dino": DINO,
    "supervised": Supervised,
}


class Stepper(Protocol):
    """Whatever trains on the same views again and again."""

    def step(self) -> float:
        """Train on the views and return the loss."""


def seconds(stepper: Stepper, steps: int, device: str) -> float:
    """Time `steps` steps; both sides read the loss back, which waits for the device.

    On a CPU it is the processor time, which other processes do not change much.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    for _ in range(steps):
        stepper.step()
    return clock() - began


def ratios(steppers: Mapping[str, Stepper], plain: str, rounds: int, steps: int, device: str) -> dict[str, list[float]]:
    """Return the time of each stepper over that of the plain one, round by round; the order alternates."""
    found: dict[str, list[float]] = {name: [] for name in steppers if name != plain}
    for number in range(rounds):
        order = list(steppers) if number % 2 == 0 else list(reversed(steppers))
        took = {name: seconds(steppers[name], steps, device) for name in order}
        for name, values in found.items():
            values.append(took[name] / took[plain])
    return found


def compare(method: str, arguments: argparse.Namespace) -> bool:
    """Print how a method's step compares to its bare loop; return whether the target is met."""
    config = recipe(method, arguments.batch, arguments.size, arguments.device)
    views = views_of(config)
    ours = Ours(config, views)
    bare = LOOPS[method](config, list(views.values()), ours.trainer)
    for number in range(3):  # the first steps also warm both up
        losses = ours.step(), bare.step()
        if abs(losses[0] - losses[1]) > 1e-3 * abs(losses[1]):
            print(f"{method}, step {number}: the losses differ, {losses[0]:.6f} and {losses[1]:.6f}", file=sys.stderr)
            return False
    steppers = {"ours": ours, "bare": bare}
    found = ratios(steppers, "bare", arguments.rounds, arguments.steps, arguments.device)["ours"]
    median = statistics.median(found)
    print(
        f"{method:8} {config.backbone.name:22} same losses ({losses[0]:.4f}, {losses[1]:.4f} after 3 steps)  "
        f"median ratio {median:.3f} ({min(found):.3f} to {max(found):.3f})  "
        f"at most {TARGET:.2f}: {'yes' if median <= TARGET else 'NO'}",
        flush=True,
    )
    return median <= TARGET


def count(stepper: Ours) -> Counter[str]:
    """Count the forward passes of one step by a hook on the backbone, and its backward passes."""
    counts: Counter[str] = Counter()

    def hook(module: nn.Module, given: Any, features: Tensor) -> None:
        if features.requires_grad:
            counts["training forward"] += 1
            features.register_hook(lambda gradient: counts.update(["backward"]))
        else:
            counts["scoring forward"] += 1

    handle = stepper.trainer.objective.method.backbone.register_forward_hook(hook)
    stepper.step()
    handle.remove()
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", choices=LOOPS, default=list(LOOPS))
    for name, default in (("batch", 32), ("size", 64), ("steps", 2), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or "CPU"
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} thread, torch {torch.__version__}")
    print(f"batch {arguments.batch}, {arguments.size} pixels, {arguments.rounds} rounds of {arguments.steps} steps")
    met = [compare(method, arguments) for method in arguments.methods]
    candidates = 4
    config = recipe("simsiam", arguments.batch, arguments.size, arguments.device, HardViews(candidates))
    counts = count(Ours(config, views_of(config)))
    names = ("scoring forward", "training forward", "backward")
    shown = ", ".join(f"{counts[name]} {name}" for name in names)
    print(f"passes of a step with hard views, N={candidates}: {shown} (expected {candidates}, 2, 2)")
    return 0 if all(met) and [counts[name] for name in names] == [candidates, 2, 2] else 1


if __name__ == "__main__":
    sys.exit(main())
