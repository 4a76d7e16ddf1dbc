"""Start and memory of a second protocol on features that are cached: `python benchmarks/cached.py`.

It writes features of 50,000 x 2048 into a cache of its own, as an evaluation leaves them. Then processes of their own
read and check them and fit a protocol. It prints the seconds until the protocol has its features, and the peak of the
memory beyond the features once.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from hardviews.data.index import SAMPLE, Index
from hardviews.evaluation.features.cache import FeatureKey, locked
from hardviews.evaluation.features.extract import Features, extract
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.sources import Embedding
from hardviews.evaluation.probe import Task
from hardviews.evaluation.probes.knn import Knn, fit_knn
from hardviews.evaluation.probes.linear import Linear, fit_linear
from hardviews.world import ALONE

_BATCH = 256


def dataset(samples: int, classes: int) -> Index:
    """Return an index of so many samples, whose images are never read: the features are there."""
    rows = np.zeros(samples, SAMPLE)
    rows["label"] = np.random.default_rng(0).integers(classes, size=samples)
    return Index("nowhere", tuple(map(str, range(classes))), (), rows, 0, f"{samples}-{classes}")


def fill(index: Index, width: int) -> None:
    """Write random features of a dataset into the cache."""
    key = FeatureKey("map", index.digest, 224, 224, "float32", "cpu", _BATCH)
    generator = np.random.default_rng(1)
    with locked(key, len(index), width, ALONE) as file:
        assert file is not None
        for number in file.missing:
            rows = min(_BATCH, len(index) - number * _BATCH)
            file.write(number, generator.standard_normal((rows, width), dtype=np.float32))


def fit(name: str, samples: int, classes: int) -> tuple[float, float]:
    """Read the features and fit a protocol; return the seconds until it begins, and MB of its peak beyond libraries."""
    index = dataset(samples, classes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    kind = Embedding("pretrained", "map", lambda images: images)
    features: Features = extract(index, kind, Preprocess(224, 224), ALONE, batch_size=_BATCH)
    seconds = time.perf_counter() - began
    held_out_N = torch.arange(len(index)) % 10 == 0
    task = Task(features, held_out_N, len(index.classes), ALONE)
    if name == "knn":
        fit_knn(Knn("run"), task).predict(features.rows(torch.arange(2000)))
    elif name == "linear, SGD":
        fit_linear(Linear("run", solver="sgd", epochs=1), task)
    else:
        fit_linear(Linear("run", solver="lbfgs", penalties=(1e-2, 1e-1)), task)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return seconds, peak / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--protocols", nargs="+", default=["knn", "linear, SGD", "linear, L-BFGS"])
    given = parser.parse_args()
    index = dataset(given.samples, given.classes)
    once = 4e-6 * given.samples * given.width
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARDVIEWS_CACHE"] = folder
        fill(index, given.width)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
            for name in given.protocols:
                seconds, peak = pool.submit(fit, name, given.samples, given.classes).result()
                print(
                    f"{name}: begins after {seconds:.1f} s; peak of {peak:.0f} MB, {peak - once:.0f} MB beyond the "
                    f"features once ({once:.0f} MB)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
