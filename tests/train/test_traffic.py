"""Training on a dataset in a bucket: what came from there is counted, through restarts, over workers and ranks."""

from dataclasses import replace
from pathlib import Path

import pytest

from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.reader import ReaderConfig
from hardviews.recipes.recipe import Recipe
from hardviews.storage.store import Store
from hardviews.train.loader import LoaderConfig
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


@pytest.mark.parametrize("workers", [0, 1])
def test_bytes_fetched_are_counted_through_restarts(
    folder: str, untracked: Path, s3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    url = s3.bucket() + "/data"
    for path in Path(folder).iterdir():
        Store(url).put(str(path), path.name, move=False)
    index = Index.load(url)
    recipe = streaming(index, workers)
    whole = train(recipe, folder, untracked / "whole")
    output = train(recipe, url, untracked / "streamed", dies=(7,))
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
