"""A plain SimSiam step of ours against a bare loop with the same network, views and loss, in alternating rounds.

    python benchmarks/step.py [--batch 64] [--size 64] [--steps 4] [--rounds 9] [--device cpu]

The bare loop is what one would write by hand: torch's BatchNorm, two forward passes, one loss, one optimizer. Both
begin with the same weights, see the same views (uint8, in memory) and must compute the same losses. Prints the median
of the rounds' ratios of time (target: at most 1.10), and then counts the passes of a step with hard views: scoring
takes one forward pass a candidate, training the two views that were chosen.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hardviews.clock import Clock
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.models.backbones import Backbone
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe, Training
from hardviews.train.trainer import Trainer
from hardviews.views.augmentation import mocov2
from hardviews.views.plan import Slot
from stepping.stepper import TOTAL, Stepper, raw_batch

TARGET = 1.10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def recipe(batch: int, size: int, strategy: Strategy, device: str) -> Recipe:
    """SimSiam as published, but for a smaller network."""
    return Recipe(
        "step",
        SimSiamConfig(view=mocov2(size)),
        Backbone("resnet18"),
        strategy,
        Training(batch=batch, group=min(32, batch)),
        precision=Precision(device, "float32"),
    )


class Ours(Stepper):
    """A step of the trainer."""

    def __init__(self, config: Recipe, views: list[Tensor]) -> None:
        slots = [Slot("view", number) for number in range(len(views))]
        rows = dict.fromkeys(slots, torch.zeros(config.training.batch, 1))
        raw = raw_batch(rows, dict(zip(slots, views, strict=True)))
        super().__init__(config, lambda plan: raw, config.precision.choose_device(0))

    def loss(self) -> float:
        return self.step().loss


class Bare:
    """The same by hand, in plain torch and timm."""

    def __init__(self, config: Recipe, views: list[Tensor], ours: Trainer) -> None:
        import timm

        width, bottleneck = 2048, 512
        device = config.precision.choose_device(0)
        network = timm.create_model("resnet18", num_classes=0)

        def block(inside: int, outside: int, last: bool) -> list[nn.Module]:
            norm = nn.BatchNorm1d(outside, affine=not last)
            return [nn.Linear(inside, outside, bias=False), norm, *([] if last else [nn.ReLU(inplace=True)])]

        projector = nn.Sequential(*block(512, width, False), *block(width, width, False), *block(width, width, True))
        predictor = nn.Sequential(*block(width, bottleneck, False), nn.Linear(bottleneck, width))
        self.model = nn.ModuleDict({"backbone": network, "projector": projector, "predictor": predictor})
        self.model.load_state_dict(ours.objective.method.state_dict())
        self.model.train().to(device, memory_format=torch.channels_last)
        self.encoder = nn.Sequential(network, projector)
        self.predictor = predictor
        rate, self.peak = config.optimizer, config.optimizer.peak(config.training.batch)
        self.optimizer = torch.optim.SGD(
            [{"params": self.encoder.parameters()}, {"params": predictor.parameters()}],
            lr=self.peak,
            momentum=rate.momentum,
            weight_decay=rate.weight_decay,
            nesterov=ours.optimizer.param_groups[0]["nesterov"],
        )
        self.views, self.device, self.batch = views, device, config.training.batch
        self.mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
        self.schedule, self.steps = config.schedule, 0

    def loss(self) -> float:
        clock = Clock(0, 0, self.steps, self.steps * self.batch, TOTAL)
        self.optimizer.param_groups[0]["lr"] = self.schedule.rate(self.peak, clock, epochs=1)
        self.steps += 1
        first, second = (
            ((view.to(self.device).float() / 255 - self.mean) / self.std).to(memory_format=torch.channels_last)
            for view in self.views
        )
        z1, z2 = self.encoder(first), self.encoder(second)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        loss = 0.5 * (_distance(p1, z2.detach()) + _distance(p2, z1.detach()))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def _distance(prediction: Tensor, target: Tensor) -> Tensor:
    return -(normalize(prediction, dim=1) * normalize(target, dim=1)).sum(1).mean()


def seconds(stepper: Ours | Bare, steps: int) -> float:
    """Time `steps` steps; both read the loss back, which waits for the device."""
    began = time.perf_counter()
    for _ in range(steps):
        stepper.loss()
    return time.perf_counter() - began


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
    for name, default in (("batch", 64), ("size", 64), ("steps", 4), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    candidates = 4
    views = list(torch.randint(0, 256, (candidates, arguments.batch, 3, arguments.size, arguments.size)).byte())
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or "CPU"
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"SimSiam, ResNet-18, batch {arguments.batch}, {arguments.size} pixels, {arguments.steps} steps a round")

    config = recipe(arguments.batch, arguments.size, Clean(), arguments.device)
    ours = Ours(config, views[:2])
    bare = Bare(config, views[:2], ours.trainer)
    for number in range(3):  # the first steps also warm both up
        losses = ours.loss(), bare.loss()
        if abs(losses[0] - losses[1]) > 1e-4:
            print(f"step {number}: the losses differ, {losses[0]:.6f} and {losses[1]:.6f}", file=sys.stderr)
            return 1
    print(f"same losses: {losses[0]:.6f} and {losses[1]:.6f} after {number + 1} steps")
    ratios = []
    for number in range(arguments.rounds):
        # Which goes first alternates, so that neither always profits from what the other left.
        order = (ours, bare) if number % 2 == 0 else (bare, ours)
        took = {stepper: seconds(stepper, arguments.steps) / arguments.steps for stepper in order}
        ratios.append(took[ours] / took[bare])
        print(
            f"round {number}: hardviews {1e3 * took[ours]:7.1f} ms a step, bare loop {1e3 * took[bare]:7.1f} ms, "
            f"ratio {ratios[-1]:.3f}"
        )
    median = statistics.median(ratios)
    print(f"median ratio {median:.3f} (target: at most {TARGET:.2f})")

    hard = Ours(recipe(arguments.batch, arguments.size, HardViews(candidates), arguments.device), views)
    counts = count(hard)
    names = ("scoring forward", "training forward", "backward")
    shown = ", ".join(f"{counts[name]} {name}" for name in names)
    print(f"passes of a step with hard views, N={candidates}: {shown} (expected {candidates}, 2, 2)")
    right = [counts[name] for name in names] == [candidates, 2, 2]
    return 0 if right and median <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
