"""A SimSiam step with `training.compile` against the same step without it, in alternating rounds of one process.

    python benchmarks/compiled.py [--network resnet18] [--batch 64] [--size 64] [--steps 4] [--rounds 7] [--hard]

Both begin with the same weights and see the same views (uint8, in memory). Prints the losses and seconds of the first
steps, which compile, and the median of the rounds' ratios of time. On a CPU the time is that of the process, so that
other work on the machine does not count. `--hard` chooses hard views (N=4).
"""

import argparse
import os
import statistics
import time
from dataclasses import replace

import torch

from hardviews.models.backbones import Backbone
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from step import Ours, recipe

WARM = 3  # steps before the rounds


def seconds(stepper: Ours, steps: int, device: str) -> float:
    """Return the time of a step; each reads the loss back, which waits for the device."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    for _ in range(steps):
        stepper.step()
    return (clock() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 64), ("size", 64), ("steps", 4), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--hard", action="store_true")
    given = parser.parse_args()
    torch.manual_seed(0)
    candidates = 4 if given.hard else 2
    views = list(torch.randint(0, 256, (candidates, given.batch, 3, given.size, given.size)).byte())
    plain = recipe(given.batch, given.size, HardViews(candidates) if given.hard else Clean(), given.device)
    plain = replace(plain, backbone=Backbone(given.network))
    steppers = {on: Ours(replace(plain, training=replace(plain.training, compile=on)), views) for on in (False, True)}
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, {given.network}")
    for number in range(WARM):
        for on, stepper in steppers.items():
            began = time.perf_counter()
            loss = stepper.step()
            print(f"step {number}, compile {on}: loss {loss:.6f}, {time.perf_counter() - began:.2f} s", flush=True)
    ratios = []
    for number in range(given.rounds):
        # The order alternates, so that neither always profits from the other's caches.
        took = {on: seconds(steppers[on], given.steps, given.device) for on in (number % 2 == 0, number % 2 == 1)}
        ratios.append(took[True] / took[False])
        print(f"round {number}: {1e3 * took[True]:.1f} ms compiled, {1e3 * took[False]:.1f} ms plain: {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
