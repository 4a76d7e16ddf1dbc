"""Hard view selection as published against ours, exact and cheap, in alternating rounds of one process.

    python benchmarks/published_hvs.py [--methods simsiam dino] [--batch 16] [--size 128] [--cheap 48] [--rounds 9]

The published step is our own implementation (`bare/published.py`). It begins with the weights of our step and sees the
same candidates (uint8, in memory). It must compute the same losses as our exact step, so both choose the same views.
Prints the time of each step as a multiple of the bare step on random views: median, least and greatest of the rounds.
"""

import argparse
import os
import platform
import statistics
import sys

import torch

from bare.ours import Ours, recipe, views_of
from bare.published import PublishedDINO, PublishedSimSiam
from hardviews.strategies.hard_views import HardViews
from step import LOOPS, Stepper, ratios

PUBLISHED = {"simsiam": PublishedSimSiam, "dino": PublishedDINO}
# The published SimSiam normalises all candidates together, and its running statistics see them.
EXACT = {"simsiam": HardViews(4, normalise="together", move_statistics=True), "dino": HardViews(4)}


def compare(method: str, arguments: argparse.Namespace) -> bool:
    """Print how long each step takes; return whether ours chooses as published and is no slower."""
    device, sizes = arguments.device, (arguments.batch, arguments.size, arguments.device)
    cheap = HardViews(4, size=arguments.cheap)
    if method == "dino":
        cheap = HardViews(4, size=arguments.cheap, score="targets", noise="training")
    exact = recipe(method, *sizes, EXACT[method])
    views = views_of(exact)
    ours = Ours(exact, views)
    published = PUBLISHED[method](exact, list(views.values()), ours.trainer)
    for number in range(3):
        losses = ours.step(), published.step()
        if abs(losses[0] - losses[1]) > 1e-3 * abs(losses[1]):
            print(f"{method}, step {number}: the losses differ, {losses[0]:.6f} and {losses[1]:.6f}", file=sys.stderr)
            return False
    plain = recipe(method, *sizes)
    random = [view for slot, view in views_of(plain).items()]
    steppers: dict[str, Stepper] = {
        "plain": LOOPS[method](plain, random, Ours(plain, views_of(plain)).trainer),
        "published": published,
        "exact": Ours(recipe(method, *sizes, HardViews(4)), views),
        "cheap": Ours(recipe(method, *sizes, cheap), views),
    }
    for stepper in steppers.values():
        stepper.step()  # warms up
    found = ratios(steppers, "plain", arguments.rounds, arguments.steps, device)
    middle = {name: statistics.median(values) for name, values in found.items()}
    shown = ", ".join(f"{n} {middle[n]:.3f} ({min(v):.3f} to {max(v):.3f})" for n, v in found.items())
    print(f"{method:8} same losses ({losses[0]:.4f}, {losses[1]:.4f} after 3 steps)  {shown}", flush=True)
    print(f"{'':8} published over ours: exact {middle['published'] / middle['exact']:.2f}, "
          f"cheap {middle['published'] / middle['cheap']:.2f}", flush=True)  # fmt: skip
    return middle["exact"] <= middle["published"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", choices=PUBLISHED, default=list(PUBLISHED))
    for name, default in (("batch", 16), ("size", 128), ("cheap", 48), ("steps", 1), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or "CPU"
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} thread, torch {torch.__version__}")
    print(f"batch {arguments.batch}, {arguments.size} pixels, cheap at {arguments.cheap}, {arguments.rounds} rounds")
    print("time of a step over that of the bare step on random views")
    met = [compare(method, arguments) for method in arguments.methods]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
