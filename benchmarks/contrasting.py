"""Peak memory of SimCLR's loss, forward and backward, by the size of the batch: in blocks and in the plain form.

    python benchmarks/contrasting.py [--small 512] [--large 4096] [--width 128]

Counts the bytes that torch's allocator holds at once on the CPU, by its profiler; embeddings are given. Target: the
larger batch takes in blocks at most as many times the memory as it has images. Also prints the time of both forms.
"""

import argparse
import sys
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.profiler import ProfilerActivity, profile

from hardviews.methods.simclr import SimCLRConfig


def loss_of(batch: int, width: int, block: int | None) -> tuple[Tensor, list[Tensor]]:
    """Compute the loss of random embeddings and its gradient; return both."""
    config = SimCLRConfig(hidden=4, output=width)
    method = SimCLRConfig(hidden=4, output=width, block=block or config.block).build(nn.Identity(), 4)
    generator = torch.Generator().manual_seed(batch)
    views = {
        pair.online: normalize(torch.randn(batch, width, generator=generator), dim=1).requires_grad_()
        for pair in method.pairs()
    }
    targets = {slot: method.label(view) for slot, view in views.items()}
    loss = method.pair_losses(None, views, targets, method.pairs()).mean()  # type: ignore[arg-type]
    loss.backward()
    return loss.detach(), [view.grad for view in views.values() if view.grad is not None]


def peak(batch: int, width: int, block: int | None) -> float:
    """Return the most megabytes held at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss_of(batch, width, block)
    now = most = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("small", 512), ("large", 4096), ("width", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    small, large, width = arguments.small, arguments.large, arguments.width
    ratios = {}
    for name, block in (("plain form", 2**20), ("in blocks", None)):
        few, many = (peak(batch, width, block) for batch in (small, large))
        began = time.process_time()
        loss_of(large, width, block)
        ratios[name] = many / few
        print(
            f"{name:10s}  {few:8.1f} MiB at {small}, {many:8.1f} MiB at {large}: {ratios[name]:.1f} times; "
            f"{time.process_time() - began:.1f} s of one core at {large}"
        )
    (plain, mine), (blocks, others) = loss_of(large, width, 2**20), loss_of(large, width, None)
    difference = max((a - b).abs().max() / a.abs().max() for a, b in zip(mine, others, strict=True))
    print(f"losses {plain:.6f} and {blocks:.6f}; largest relative difference of gradients {difference:.1e}")
    print(f"target: at most {large / small:.0f} times")
    return 0 if ratios["in blocks"] <= large / small and difference < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
