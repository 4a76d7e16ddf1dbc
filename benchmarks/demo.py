"""Gain of pretraining on handwritten digits: the demo over several seeds.

    python benchmarks/demo.py [--seeds 3] [--epochs 20] [--folder FOLDER]

Runs the very commands of `make demo`, each seed with its own untrained encoder. Prints means and standard deviations of
the test accuracy of raw pixels, the untrained and the pretrained encoder, and the time of each part. The gain is in
standard deviations of the difference, the root of the sum of both variances. The exit code is not 0 unless both gains
exceed 2. Without --folder everything is done in a temporary folder, from the beginning.
"""

import argparse
import os
import statistics
import sys
import tempfile

from hardviews.demo import Demo, Outcome, measure

NEEDED = 2.0
NAMES = {"pixels": "raw pixels", "untrained": "untrained encoder", "pretrained": "pretrained encoder"}


def gain(before: list[float], after: list[float]) -> float:
    """Return the difference of two means in standard deviations of the difference."""
    spread = (statistics.variance(before) + statistics.variance(after)) ** 0.5
    return (statistics.mean(after) - statistics.mean(before)) / max(spread, 1e-9)


def report(outcomes: list[Outcome]) -> bool:
    """Print the tables; return whether pretraining gained enough by every metric."""
    enough = True
    print(f"\n{len(outcomes)} seeds, {outcomes[0].epochs} epochs each, {os.cpu_count()} cores")
    for metric in outcomes[0].accuracy:
        rows = {source: [outcome.accuracy[metric][source] for outcome in outcomes] for source in NAMES}
        print(f"{metric} (%)")
        for source, values in rows.items():
            each = ", ".join(f"{value:.1f}" for value in values)
            mean, deviation = statistics.mean(values), statistics.stdev(values)
            print(f"  {NAMES[source]:20s}{mean:6.2f}, standard deviation {deviation:.2f}  ({each})")
        gained = gain(rows["untrained"], rows["pretrained"])
        enough &= gained > NEEDED
        print(f"  pretraining gains {gained:.1f} standard deviations (more than {NEEDED:.0f} needed)")
    for part in outcomes[0].seconds:
        each = ", ".join(f"{outcome.seconds[part]:.0f}" for outcome in outcomes)
        print(f"seconds of {part}: {each}")
    return enough


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or temporary
        outcomes = [measure(Demo(folder=folder, seed=n, epochs=arguments.epochs)) for n in range(arguments.seeds)]
    return 0 if report(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
