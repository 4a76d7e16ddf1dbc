"""Training on a dataset in a bucket: the fetched data is counted, through restarts, over workers and ranks."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hardviews.clock import Clock
from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.reader import ReaderConfig
from hardviews.storage.store import open_store
from hardviews.train.loader import LoaderConfig
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import StepReport, Trainer
from tests.data.helpers import Noise
from tests.train.runs import losses, rows, simclr, train, weights


@pytest.fixture
def folder(tmp_path: Path) -> str:
    pack(Noise(90), str(tmp_path / "data"), shard_bytes=20_000, progress=False)
    return str(tmp_path / "data")


def streaming(index: Index, workers: int) -> Recipe:
    """A cache that holds half of the dataset."""
    recipe, size = simclr(2), sum(shard.size for shard in index.shards)
    return replace(
        recipe, loader=LoaderConfig(ReaderConfig(window=2, streams=1, ahead=1, cache_bytes=size // 2), workers)
    )


@pytest.fixture
def bucket(folder: str, s3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The dataset on S3, and an empty cache."""
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    url = s3.bucket() + "/data"
    for path in Path(folder).iterdir():
        open_store(url).put(str(path), path.name, move=False)
    return url


@contextmanager
def at_step(step: int, action: Callable[[], None]) -> Iterator[None]:
    """Inside, do something before a step."""
    original = Trainer.step

    def acting(self: Trainer, raws: Any, clock: Clock, *flags: bool) -> StepReport:
        if clock.step == step:
            action()
        return original(self, raws, clock, *flags)

    Trainer.step = acting  # type: ignore[method-assign]
    try:
        yield
    finally:
        Trainer.step = original  # type: ignore[method-assign]


@pytest.mark.parametrize("workers", [0, 1])
def test_bytes_fetched_are_counted_through_restarts(folder: str, bucket: str, untracked: Path, workers: int) -> None:
    index = Index.load(bucket)
    recipe = streaming(index, workers)
    whole = train(recipe, folder, untracked / "whole")
    output = train(recipe, bucket, untracked / "streamed", dies=(7,))
    assert losses(output) == losses(whole)
    assert weights(output) == weights(whole)
    told = rows(output)
    assert [name for name in rows(whole)[-1] if name.startswith("data/")] == ["data/corrupt", "data/substituted"]
    size = sum(shard.size for shard in index.shards)
    fetched = [row["data/bytes_fetched"] for row in told]
    assert fetched == sorted(fetched)
    # Two epochs, each of which needs every shard, through a cache that keeps half of them at most.
    assert fetched[-1] > 1.1 * size
    last = told[-1]
    assert last["data/cache_misses"] > len(index.shards)
    assert last["data/cache_evictions"] > 0
    assert last["data/requests"] >= last["data/cache_misses"] + last["data/direct_reads"]
    assert last["data/retries"] == 0


def test_a_server_that_restarts_only_pauses_training(folder: str, bucket: str, untracked: Path, s3) -> None:
    recipe = streaming(Index.load(bucket), workers=1)

    def restart() -> None:
        s3.stop()
        threading.Timer(2, s3.start).start()

    with at_step(2, restart):
        output = train(recipe, bucket, untracked / "streamed")
    assert losses(output) == losses(train(recipe, folder, untracked / "whole"))
    assert rows(output)[-1]["data/retries"] > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_who_interrupts_does_not_wait_for_a_store(bucket: str, untracked: Path, s3, workers: int) -> None:
    others = set(multiprocessing.active_children())  # of other tests that this process runs
    began = 0.0

    def interrupt() -> None:
        nonlocal began
        s3.stop()
        time.sleep(1)  # whoever reads ahead meets nobody by now
        began = time.monotonic()
        raise KeyboardInterrupt

    with at_step(2, interrupt), pytest.raises(KeyboardInterrupt):
        train(streaming(Index.load(bucket), workers), bucket, untracked / "streamed")
    assert time.monotonic() - began < 15
    assert set(multiprocessing.active_children()) <= others
