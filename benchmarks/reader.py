"""Our reader against plain webdataset on the same local shards, in alternating rounds.

    python benchmarks/reader.py [--images 6000] [--rounds 7] [--workers 0] [--s3 [--latency 20]]

With --s3 the shards lie in a local S3 server (SeaweedFS). webdataset streams them through `pipe:curl`; ours copies them
into an empty cache, verifies and reads them. The time includes the first batch and all waiting. With --latency a proxy
(reading/distance.py) lets each request wait so many milliseconds, and a connection carry 85 MB/s.

Both deliver every sample's encoded bytes and label, shuffled (webdataset with a buffer of 1,000, ours fully),
in batches of 256, once from the page cache. Ours checks every sample's CRC-32, which webdataset does not.
Prints images a second of each and the median of the rounds' ratios.
"""

import argparse
import contextlib
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests know how to run real servers

import numpy as np
import simplejpeg
import torch
import webdataset

from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.data.shares import Portion
from hardviews.data.source import Item
from hardviews.storage.filesystem import file_system
from hardviews.storage.store import open_store
from tests.s3 import SeaweedFS
from tests.tracking.servers import free_port

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
        # Few distinct images: only reading is timed. Noise does not compress like a photograph.
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
        portion = Portion(seed=0, epoch=self.epoch, global_batch=BATCH)
        shares = self.reader.iterate(portion, worker=worker, workers=workers)
        return ([(s.data, s.label) for s in share.samples] for share in shares)


def theirs(names: list[str], epoch: int) -> Any:
    """Return the pipeline of webdataset's documentation, without decoding."""
    data = webdataset.WebDataset(names, shardshuffle=100, seed=epoch, workersplitter=webdataset.split_by_worker)
    return data.shuffle(1000).to_tuple("jpg", "cls").batched(BATCH, partial=True)


def rate(batches: Callable[[], Any], workers: int, size: Callable[[Any], int], whole: bool = False) -> float:
    """Images a second over one pass, the start of worker processes and their first batch apart unless `whole`."""
    context = "forkserver" if workers and whole else None
    made = torch.utils.data.DataLoader(batches(), batch_size=None, num_workers=workers, multiprocessing_context=context)
    began = time.perf_counter()
    loader = iter(made)
    images = size(next(loader))
    if not whole:
        images, began = 0, time.perf_counter()
    images += sum(size(batch) for batch in loader)
    return images / (time.perf_counter() - began)


@contextlib.contextmanager
def empty_cache() -> Iterator[None]:
    """Inside, nothing has been fetched yet."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARDVIEWS_CACHE"] = folder
        yield


@contextlib.contextmanager
def distance(server: SeaweedFS, latency: float) -> Iterator[None]:
    """Inside, clients reach the server through a proxy that holds them up."""
    port = free_port()
    program = [sys.executable, str(Path(__file__).parent / "reading" / "distance.py")]
    process = subprocess.Popen([*program, f"--target={server.port}", f"--port={port}", f"--latency={latency}"])
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        yield
    finally:
        process.kill()
        process.wait()


def ours_from_s3(url: str, epoch: int, workers: int) -> float:
    with empty_cache():
        return rate(lambda: Ours(url, epoch), workers, len, whole=True)


def compare(pair: list[Callable[[int], float]], rounds: int) -> None:
    """Print each round's rates and the median of their ratios."""
    ratios = []
    for number in range(rounds):
        # The order alternates, so that neither always profits from the other's caches.
        found = {which: pair[which](number) for which in ((0, 1) if number % 2 == 0 else (1, 0))}
        ratios.append(found[0] / found[1])
        print(
            f"round {number}: hardviews {found[0]:9.0f} images/s, webdataset {found[1]:9.0f} images/s, "
            f"ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f} (at least as fast: 1 or more)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--s3", action="store_true", help="shards in a local S3 server")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds that each request waits")
    arguments = parser.parse_args()
    workers = arguments.workers
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        index = pack(Photographs(arguments.images), folder, shard_bytes=40 * 2**20)
        names = [os.path.join(folder, shard.name) for shard in index.shards]
        size = sum(shard.size for shard in index.shards)
        print(f"{len(index)} images, {size / 1e6:.0f} MB in {len(names)} shards, {workers} workers")
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
            f"webdataset {webdataset.__version__}"
        )
        if not arguments.s3:
            pair = [
                lambda n: rate(lambda: Ours(folder, n), workers, len),
                lambda n: rate(lambda: theirs(names, n), workers, lambda batch: len(batch[0])),
            ]
        else:
            server = SeaweedFS()
            stack.callback(server.close)
            os.environ.update(server.environment)
            url = f"{server.bucket()}/data"
            for path in sorted(Path(folder).iterdir()):
                open_store(url).put(str(path), path.name, move=False)
            if arguments.latency:
                stack.enter_context(distance(server, arguments.latency))
            signed = [file_system("s3").sign(f"{url}/{shard.name}") for shard in index.shards]
            pipes = [f"pipe:curl -s '{address}'" for address in signed]
            pair = [
                lambda n: ours_from_s3(url, n, workers),
                lambda n: rate(lambda: theirs(pipes, n), workers, lambda batch: len(batch[0]), whole=True),
            ]
        compare(pair, arguments.rounds)


if __name__ == "__main__":
    main()
