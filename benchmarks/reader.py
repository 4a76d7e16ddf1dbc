"""Our reader against plain webdataset on the same local shards, in alternating rounds.

    python benchmarks/reader.py [--images 6000] [--rounds 7] [--workers 0]

Both deliver every sample's encoded bytes and label, shuffled (webdataset with a buffer of 1,000, ours fully),
in batches of 256, once from the page cache. Ours checks every sample's CRC-32, which webdataset does not.
Prints images a second of each and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
import torch
import webdataset

from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.data.source import Item

BATCH = 256


@dataclass(frozen=True)
class Photographs:
    """`n` JPEGs of about 110 KB, as ImageNet's originals have."""

    n: int
    classes: tuple[str, ...] = ("a", "b")

    def __len__(self) -> int:
        return self.n

    def key(self, i: int) -> str:
        return f"photograph_{i:06d}"

    def read(self, i: int) -> Item:
        # Few distinct images: what is timed is reading, and noise compresses like a photograph does not.
        random = np.random.default_rng(i % 16)
        coarse = random.integers(0, 256, (350 // 10, 470 // 10, 3)).repeat(10, 0).repeat(10, 1)
        noisy = np.clip(coarse + random.normal(0, 9, coarse.shape), 0, 255).astype(np.uint8)
        return Item(self.key(i), simplejpeg.encode_jpeg(noisy, quality=85), "jpg", i % 2, f"{i}")


class Ours(torch.utils.data.IterableDataset[Any]):
    """Batches of (bytes, label) from `Reader.iterate`."""

    def __init__(self, url: str, epoch: int) -> None:
        self.reader, self.epoch = Reader(url), epoch

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        shares = self.reader.iterate(seed=0, epoch=self.epoch, global_batch=BATCH, worker=worker, workers=workers)
        return ([(s.data, s.label) for s in share.samples] for share in shares)


def theirs(names: list[str], epoch: int) -> Any:
    """The pipeline of webdataset's documentation, without decoding."""
    data = webdataset.WebDataset(names, shardshuffle=100, seed=epoch, workersplitter=webdataset.split_by_worker)
    return data.shuffle(1000).to_tuple("jpg", "cls").batched(BATCH, partial=True)


def rate(batches: Callable[[], Any], workers: int, size: Callable[[Any], int]) -> float:
    """Images a second over one pass, the start of worker processes apart."""
    loader = iter(torch.utils.data.DataLoader(batches(), batch_size=None, num_workers=workers))
    next(loader)
    began = time.perf_counter()
    images = sum(size(batch) for batch in loader)
    return images / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        index = pack(Photographs(arguments.images), folder, shard_bytes=40 * 2**20)
        names = [os.path.join(folder, shard.name) for shard in index.shards]
        size = sum(shard.size for shard in index.shards)
        print(f"{len(index)} images, {size / 1e6:.0f} MB in {len(names)} shards, {arguments.workers} workers")
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
            f"webdataset {webdataset.__version__}"
        )
        ratios = []
        for number in range(arguments.rounds):
            pair = [
                lambda n=number: rate(lambda: Ours(folder, n), arguments.workers, len),
                lambda n=number: rate(lambda: theirs(names, n), arguments.workers, lambda batch: len(batch[0])),
            ]
            # Which goes first alternates, so that neither always profits from what the other left.
            order = (0, 1) if number % 2 == 0 else (1, 0)
            found = {which: pair[which]() for which in order}
            ratios.append(found[0] / found[1])
            print(
                f"round {number}: hardviews {found[0]:9.0f} images/s, webdataset {found[1]:9.0f} images/s, "
                f"ratio {ratios[-1]:.2f}"
            )
        print(f"median ratio {statistics.median(ratios):.2f} (at least as fast: 1 or more)")


if __name__ == "__main__":
    main()
