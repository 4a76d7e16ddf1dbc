"""Cost of a checkpoint in an object store for the training: the steps that it holds and slows.

    python benchmarks/checkpoint.py [--network resnet18] [--batch 8] [--size 32] [--rounds 9] [--window 6]
                                    [--device cpu]

SimSiam steps go on without pause, in windows of some seconds, longer than a save lasts. In every other window a
checkpoint is taken at the first step: the state is copied, and a thread writes it to a real S3 server on this machine
(SeaweedFS). Windows with a save and windows without one alternate and have the same number of steps. The difference of
their times is the cost of a save: held and slowed steps together. Here the server shares the cores, and takes more of
them than the save itself. So its processor time is counted too: the cost without it is that of a store on another
machine. With one save a minute, that share of the time should be at most 2 %.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
# As the command line does: threads that spin take the cores from the save, and from whoever else uses them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from hardviews.clock import Clock
from hardviews.data.counters import Counters
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.models.backbones import Backbone
from hardviews.optim.optimizer import Optimizer
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.manifest import Progress
from hardviews.runs.saver import Saver, State
from hardviews.runs.state import first_not_finite, to_tensors
from hardviews.train.loader import RawBatch
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe, Training
from hardviews.train.trainer import Trainer
from hardviews.views.augmentation import mocov2
from hardviews.views.plan import Slot
from hardviews.world import World
from tests.s3 import SeaweedFS

TARGET = 0.02
INTERVAL = 60.0  # seconds between saves
TOTAL = 10**9  # samples of the run that the schedule believes in


class Job:
    """Steps on one batch in memory, and saves between them as the training loop makes them."""

    def __init__(self, options: argparse.Namespace, output: str) -> None:
        recipe = Recipe(
            "checkpoint",
            SimSiamConfig(view=mocov2(options.size)),
            Backbone(options.network),
            training=Training(batch=options.batch, group=min(32, options.batch)),
            optimizer=Optimizer("momentum", learning_rate=0.01),
            precision=Precision(options.device),
        )
        world = World(0, 1, recipe.precision.choose_device(0))
        self.trainer, self.batch = Trainer(recipe, world), options.batch
        generator = torch.Generator().manual_seed(0)
        shape = (options.batch, 3, options.size, options.size)
        slots = [Slot("view", number) for number in range(2)]
        pixels = {slot: torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for slot in slots}
        rows = dict.fromkeys(slots, torch.zeros(options.batch, 1))
        place = torch.arange(options.batch)
        self.raw = RawBatch(options.batch, place, place, place, rows, dict(pixels), Counters())
        self.saver = Saver(Checkpoints(output), None, None, active=True)
        self.steps = 0

    def step(self) -> None:
        clock = Clock(0, 0, self.steps, self.steps * self.batch, TOTAL)
        self.steps += 1
        self.trainer.step([self.raw], clock, stop=False)

    def save(self) -> float:
        """Begin a save; return the seconds that it held the steps."""
        began = time.monotonic()
        assert first_not_finite(self.trainer.objective) is None
        progress = Progress(self.steps, self.steps * self.batch, "run", "recipe", "dataset", 1)
        tensors = to_tensors(self.trainer.objective, self.trainer.optimizer)
        assert self.saver.save(State(tensors, progress, (), lambda: b""))
        return time.monotonic() - began

    def window(self, steps: int, save: bool) -> tuple[float, float]:
        """Return the seconds that the steps took, and those that a save held them."""
        began = time.monotonic()
        held = self.save() if save else 0.0
        for _ in range(steps):
            self.step()
        return time.monotonic() - began, held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--window", type=float, default=6.0, help="seconds, at least")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    server = SeaweedFS()
    os.environ.update(server.environment)
    try:
        return measure(options, f"{server.bucket()}/run", server.cpu_seconds)
    finally:
        server.close()


def measure(options: argparse.Namespace, output: str, served: Callable[[], float]) -> int:
    """Print the cost of saves; `served` returns the server's processor time so far."""
    job = Job(options, output)
    for _ in range(3):
        job.step()
    # The first save makes buffers and connections, as the first of a run does.
    first = job.save()
    job.saver.close(120)
    # A window is longer than a save takes beside steps.
    job.step()
    began, done, steps = time.monotonic(), 0.0, 0
    job.save()
    while not done or time.monotonic() - began < max(options.window, 1.5 * done):
        job.step()
        steps += 1
        if not done and not job.saver.busy:
            done = time.monotonic() - began
    size = sum(t.numel() * t.element_size() for t in to_tensors(job.trainer.objective, job.trainer.optimizer).values())
    print(f"{date.today()}  {platform.machine()}, {os.cpu_count()} cores, {options.device}, torch {torch.__version__}")
    print(
        f"SimSiam, {options.network}, batch {options.batch}: a state of {size / 2**20:.0f} MiB, {steps} steps a window"
    )
    print(f"first save of the process: held {first:.3f} s")
    costs, holds, lasted, plain, served_for = [], [], [], [], []
    before, _ = job.window(steps, save=False)
    for _ in range(options.rounds):
        used = served()
        with_save, held = job.window(steps, save=True)
        if job.saver.busy:
            print("a save took longer than a window: this machine is busy with other work, or --window is too short")
            return 1
        after, _ = job.window(steps, save=False)
        costs.append(with_save - (before + after) / 2)
        served_for.append(served() - used)
        holds.append(held)
        lasted.append(job.saver.seconds)
        plain.append(after)
        before = after
    assert job.saver.failures == 0
    noise = statistics.median(abs(time_ - statistics.median(plain)) for time_ in plain)
    cost = statistics.median(costs)
    print(f"windows without a save: median {statistics.median(plain):.3f} s, median deviation {noise:.3f} s")
    print(f"a save lasts {statistics.median(lasted):.3f} s, steps going on; held {statistics.median(holds):.3f} s")
    print(f"a save costs {cost:.3f} s, slowed steps included (rounds: {', '.join(f'{c:.2f}' for c in sorted(costs))})")
    print(f"at one save in {INTERVAL:.0f} s: {cost / INTERVAL:.2%} of the time, with the store on the same cores")
    # The server's share of the cores is missing to the steps, since steps take all cores.
    elsewhere = statistics.median(c - s / (os.cpu_count() or 1) for c, s in zip(costs, served_for, strict=True))
    share = max(0.0, elsewhere) / INTERVAL
    print(
        f"the store took {statistics.median(served_for):.2f} s of processor time for each save; without it a save costs"
    )
    print(f"{elsewhere:.3f} s: {share:.2%} of the time with the store elsewhere (target: at most {TARGET:.0%})")
    return 0 if share <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
