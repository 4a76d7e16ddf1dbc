"""Time, memory and operations of steps, measured in alternation."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensor

from hardviews.estimate.tally import Tally
from on_gpu.scale import Scale
from stepping.stepper import Stepper

_WARM_UP = 2
_GIB = 2**30


@dataclass(frozen=True)
class Warm:
    """A stepper whose first steps are taken.

    losses: of these. flops: of a step, the mean of two, since strategies may take turns. gib: peak of memory.
    """

    stepper: Stepper
    losses: tuple[float, ...]
    flops: float
    gib: float | None


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def warmed(build: Callable[[], Stepper], scale: Scale, count: bool = True) -> Warm:
    """Build a stepper, take its first steps, and measure everything but the time of one step."""
    gpu = scale.device.type == "cuda"
    before = torch.cuda.memory_allocated(scale.device) if gpu else 0
    stepper = build()
    losses = [stepper.step().loss for _ in range(0 if scale.toy and count else _WARM_UP)]
    flops, steps = 0.0, 1 if scale.toy else 2
    if count:
        with Tally(FakeTensor) as tally:  # no tensor here is fake, so that it counts operations alone
            losses += [stepper.step().loss for _ in range(steps)]
        flops = tally.flops / steps
    if not gpu:
        return Warm(stepper, tuple(losses), flops, None)
    torch.cuda.reset_peak_memory_stats(scale.device)
    for _ in range(2):
        stepper.step()
    synchronise(scale.device)
    return Warm(stepper, tuple(losses), flops, (torch.cuda.max_memory_allocated(scale.device) - before) / _GIB)


def seconds(stepper: Stepper, steps: int, device: torch.device) -> float:
    """Return the time of a step, the mean over some."""
    synchronise(device)
    began = time.perf_counter()
    for _ in range(steps):
        stepper.step()
    synchronise(device)
    return (time.perf_counter() - began) / steps


def alternating(steppers: dict[str, Stepper], scale: Scale) -> dict[str, list[float]]:
    """Return seconds of a step by name, one entry a round; the order turns round, so that none always goes first."""
    # An even number: strategies may take turns.
    steps = {
        name: 1 if scale.toy else 2 * min(50, max(1, math.ceil(scale.seconds / seconds(stepper, 2, scale.device) / 2)))
        for name, stepper in steppers.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in steppers}
    longest = 0.0
    for number in range(scale.rounds):
        if number and scale.left < 2 * longest + 1:
            break
        began = time.monotonic()
        for name in list(steppers) if number % 2 == 0 else list(reversed(steppers)):
            taken[name].append(seconds(steppers[name], steps[name], scale.device))
        longest = max(longest, time.monotonic() - began)
    return taken


def ratio(taken: dict[str, list[float]], name: str, base: str) -> list[float]:
    """Return the rounds' ratios of the time of one to that of another."""
    return [mine / theirs for mine, theirs in zip(taken[name], taken[base], strict=True)]


median = statistics.median
