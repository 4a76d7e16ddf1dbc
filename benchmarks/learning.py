"""Gain of every method on scikit-learn's handwritten digits: k-NN before and after, over several seeds.

    python benchmarks/learning.py [--seeds 3] [--only digits_moco] [--epochs N] [--folder FOLDER]
    python benchmarks/learning.py --source photographs --only photos_moco

Pretrains by each recipe for digits (`digits...`, with hard views) and scores the frozen encoder by its nearest
neighbours on digits that it has not seen. Tiles of photographs are possible too: from which photograph is a tile?

Prints means and standard deviations of the test accuracy of raw pixels, the untrained and the pretrained encoder. The
gain is in standard deviations of the difference, the root of the sum of both variances. The spread is the variance of
the directions of the embeddings; it is 0 if all images are one point. The exit code is not 0 if a method gains less
than 2 standard deviations or collapses. One seed has no deviation: then it is not 0 if a method gains nothing or
collapses.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from hardviews.data.reader import Reader
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.models.encoder import load
from hardviews.recipes import RECIPES
from hardviews.views.decode import decode

NEEDED = 2.0  # standard deviations
COLLAPSED = 0.01  # a spread below which all embeddings are one, but for rounding and noise
METRIC = "knn/top1_k20"
HARDVIEWS = Path(sys.executable).with_name("hardviews")
SOURCES = ("pixels", "untrained", "pretrained")


@dataclass(frozen=True)
class Outcome:
    """Of one seed: accuracy by source of features in per cent, spread of the embeddings, and seconds of training."""

    accuracy: dict[str, float]
    spread: float
    seconds: float


def train(recipe: str, seed: int, epochs: int | None, folder: Path) -> Outcome:
    """Pretrain, and score the encoder."""
    output = folder / f"{recipe}-{seed}"
    words = [
        HARDVIEWS,
        "pretrain",
        recipe,
        "--data",
        folder / "shards",
        "--output",
        output,
        "--training.seed",
        str(seed),
    ]
    if epochs is not None:
        words += ["--training.epochs", str(epochs)]
    began = time.perf_counter()
    done = subprocess.run([*map(str, words), "--project", str(folder / "project")], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{recipe}, seed {seed}: {done.stderr[-2000:]}")
    seconds = time.perf_counter() - began
    config = Knn(str(output), str(folder / "shards"), baselines=True, seed=seed, project=str(folder / "project"))
    result = evaluate_knn(config)
    return Outcome({name: result.metrics[name][METRIC] for name in SOURCES}, spread(output, folder), seconds)


def spread(output: Path, folder: Path) -> float:
    """Return the variance of the directions of the test images' embeddings, between 0 and 1."""
    reader = Reader(str(folder / "shards" / "test"))
    images = np.stack([decode(sample.data) for sample in reader.read(list(range(len(reader))))])
    embedded = load(str(output)).embed(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    return float(normalize(embedded.float(), dim=1).var(0, correction=0).sum())


def report(recipe: str, outcomes: list[Outcome]) -> bool:
    """Print one line; return whether the method learned and did not collapse."""
    values = {source: [outcome.accuracy[source] for outcome in outcomes] for source in SOURCES}
    means = {source: statistics.mean(found) for source, found in values.items()}
    alone = len(outcomes) == 1
    deviations = {source: 0.0 if alone else statistics.stdev(found) for source, found in values.items()}
    deviation = max((deviations["untrained"] ** 2 + deviations["pretrained"] ** 2) ** 0.5, 1e-9)
    gained = means["pretrained"] - means["untrained"]
    gain = gained / deviation
    spreads = [outcome.spread for outcome in outcomes]
    seconds = statistics.median(outcome.seconds for outcome in outcomes)
    print(
        f"{recipe:22s}{means['pixels']:7.1f}"
        f"{means['untrained']:8.1f} +- {'?' if alone else format(deviations['untrained'], '3.1f'):3s}"
        f"{means['pretrained']:8.1f} +- {'?' if alone else format(deviations['pretrained'], '3.1f'):3s}"
        f"{'?' if alone else format(gain, '.1f'):>8s}{min(spreads):9.3f}{seconds:9.0f}",
        flush=True,
    )
    return (gained > 0 if alone else gain >= NEEDED) and min(spreads) > COLLAPSED


def main() -> int:
    """Train every recipe with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="by default the recipe's")
    parser.add_argument("--only", nargs="*", default=[name for name in RECIPES if name.startswith("digits")])
    parser.add_argument("--source", default="digits", help="as of hardviews pack")
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores of {platform.processor() or platform.machine()}, {date.today()}")
    print(f"{arguments.seeds} seeds; test accuracy of k-NN (k = 20) in %, mean and standard deviation")
    print(
        f"{'recipe':22s}{'pixels':>7s}{'untrained':>15s}{'pretrained':>15s}{'gain/sd':>8s}{'spread':>9s}{'seconds':>9s}"
    )
    learned = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        if not (folder / "shards").exists():
            packed = subprocess.run(
                [HARDVIEWS, "pack", "--out", folder / "shards", "--source", arguments.source],
                capture_output=True,
                text=True,
            )
            if packed.returncode:
                raise SystemExit(packed.stderr)
        for recipe in arguments.only:
            learned &= report(recipe, [train(recipe, n, arguments.epochs, folder) for n in range(arguments.seeds)])
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main())
