"""Time of a sweep of linear heads beside the same heads one after the other: `python benchmarks/sweep.py`.

Both train every head on the same batches; the weights have to be equal bit for bit. Prints the ratio of the times, the
median of several rounds that alternate, and the memory that the sweep adds to the features.
"""

import argparse
import resource
import statistics
import time

import torch

from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.probes.sweep import Head, Schedule, Standard, train_heads
from hardviews.world import ALONE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--heads", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.randint(given.classes, (given.samples,), generator=generator)
    values_ND = torch.randn(given.samples, given.width, generator=generator)
    train, rows_K = Features(values_ND, labels_N), torch.arange(given.samples)
    standard = Standard.of(values_ND, rows_K)
    heads = [Head(10.0 ** (-3 + 4 * number / max(1, given.heads - 1))) for number in range(given.heads)]
    schedule = Schedule(epochs=1)
    ratios = []
    for number in range(given.rounds):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        together = train_heads(heads, train, rows_K, given.classes, schedule, standard, ALONE, "together")
        middle = time.perf_counter()
        added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
        alone = [
            train_heads([head], train, rows_K, given.classes, schedule, standard, ALONE, "alone")[0] for head in heads
        ]
        ended = time.perf_counter()
        ratios.append((middle - began) / (ended - middle))
        equal = all(torch.equal(one.weight_DL, together[place].weight_DL) for place, one in enumerate(alone))
        print(
            f"round {number + 1}: {given.heads} heads together {middle - began:.1f} s, one after the other "
            f"{ended - middle:.1f} s, ratio {ratios[-1]:.2f}, bit-equal {equal}, memory added {added:.0f} MB",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
