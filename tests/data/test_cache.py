"""The cache: verified, bounded, shared, and never a deadlock."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from hardviews.data.cache import CacheFull, ShardCache
from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.storage.local_store import LocalStore
from hardviews.storage.store import Store, open_store
from tests.data.helpers import flip_bit, web_server, write_dataset


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Store, Index]]:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    index = write_dataset(str(tmp_path / "data"), [10] * 4)
    with web_server(str(tmp_path / "data")) as url:
        yield open_store(url), index


def cached(tmp_path: Path) -> set[str]:
    return {name for name in os.listdir(tmp_path / "cache") if not name.endswith(".lock")}


def test_a_shard_is_fetched_once(remote: tuple[Store, Index], tmp_path: Path) -> None:
    store, index = remote
    cache = ShardCache(str(tmp_path / "cache"), 10**6)
    for _ in range(3):
        descriptor = cache.open(store, index.shards[0])
        assert os.pread(descriptor, 10**6, 0) == (tmp_path / "data" / index.shards[0].name).read_bytes()
        os.close(descriptor)
    assert (cache.counts.fetched, cache.counts.hits) == (1, 2)


def test_the_bound_holds_and_the_least_recently_used_goes_first(remote: tuple[Store, Index], tmp_path: Path) -> None:
    store, index = remote
    size = index.shards[0].size
    cache = ShardCache(str(tmp_path / "cache"), 2 * size)
    for number in (0, 1, 0, 2):
        os.close(cache.open(store, index.shards[number]))
        time.sleep(0.02)
    assert cached(tmp_path) == {f"{index.shards[n].sha256}.tar" for n in (0, 2)}
    assert cache.counts.evicted == 1


def test_pinned_shards_stay_and_a_full_cache_is_an_error(remote: tuple[Store, Index], tmp_path: Path) -> None:
    store, index = remote
    cache = ShardCache(str(tmp_path / "cache"), 2 * index.shards[0].size)
    first, second = cache.open(store, index.shards[0]), cache.open(store, index.shards[1])
    with pytest.raises(CacheFull, match="cache_bytes"):
        ShardCache(str(tmp_path / "cache"), 2 * index.shards[0].size).open(store, index.shards[2])
    os.close(first)
    third = cache.open(store, index.shards[2])
    assert cached(tmp_path) == {f"{index.shards[n].sha256}.tar" for n in (1, 2)}
    os.close(second)
    os.close(third)


def test_a_cache_that_stays_full_refuses_at_once(
    remote: tuple[Store, Index], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a reader whose window is wider than its cache would spend its time in looking for room."""
    store, index = remote
    pauses: list[float] = []
    monkeypatch.setattr("hardviews.data.cache.time.sleep", pauses.append)
    cache = ShardCache(str(tmp_path / "cache"), index.shards[0].size)
    first = cache.open(store, index.shards[0])
    for expected in (9, 9, 9):
        with pytest.raises(CacheFull):
            cache.open(store, index.shards[1])
        assert len(pauses) == expected
    os.close(first)
    os.close(cache.open(store, index.shards[1]))
    second = cache.open(store, index.shards[1])
    with pytest.raises(CacheFull):
        cache.open(store, index.shards[2])
    assert len(pauses) == 18
    os.close(second)


def test_another_datasets_bytes_are_never_served(remote: tuple[Store, Index], tmp_path: Path) -> None:
    store, index = remote
    cache = ShardCache(str(tmp_path / "cache"), 10**6)
    os.close(cache.open(store, index.shards[0]))
    other = write_dataset(str(tmp_path / "other"), [11] * 2)
    with web_server(str(tmp_path / "other")) as url:
        descriptor = cache.open(open_store(url), other.shards[0])
        assert other.shards[0].name == index.shards[0].name
        assert os.pread(descriptor, 10**6, 0) == (tmp_path / "other" / other.shards[0].name).read_bytes()
        os.close(descriptor)


def test_wrong_bytes_are_not_published(remote: tuple[Store, Index], tmp_path: Path) -> None:
    store, index = remote
    flip_bit(str(tmp_path / "data" / index.shards[0].name), 700)
    cache = ShardCache(str(tmp_path / "cache"), 10**6)
    with pytest.raises(UserError, match=r"shard-000000\.tar does not hold the bytes"):
        cache.open(store, index.shards[0])
    assert cached(tmp_path) == set()


def test_what_a_dead_process_left_is_cleared(remote: tuple[Store, Index], tmp_path: Path) -> None:
    store, index = remote
    cache = ShardCache(str(tmp_path / "cache"), 2 * index.shards[0].size)
    left = tmp_path / "cache" / "abc.tar.part"
    left.write_bytes(bytes(2 * index.shards[0].size))
    os.close(cache.open(store, index.shards[0]))
    assert cached(tmp_path) == {f"{index.shards[0].sha256}.tar"}


def test_a_truncated_copy_is_fetched_again(remote: tuple[Store, Index], tmp_path: Path) -> None:
    store, index = remote
    cache = ShardCache(str(tmp_path / "cache"), 10**6)
    os.close(cache.open(store, index.shards[0]))
    copy = tmp_path / "cache" / f"{index.shards[0].sha256}.tar"
    os.truncate(copy, 100)
    os.close(cache.open(store, index.shards[0]))
    assert copy.stat().st_size == index.shards[0].size


def _open_all(url: str, folder: str, data: str, results) -> None:
    index, store = Index.load(data), open_store(url)
    cache = ShardCache(folder, 10**6)
    for shard in index.shards:
        os.close(cache.open(store, shard))
    results.put(cache.counts.fetched)


def test_processes_of_a_machine_fetch_each_shard_once(remote: tuple[Store, Index], tmp_path: Path) -> None:
    store, index = remote
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    arguments = (store.url, str(tmp_path / "cache"), str(tmp_path / "data"), results)
    children = [context.Process(target=_open_all, args=arguments) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert sum(results.get() for _ in children) == len(index.shards)


def test_a_folder_that_cannot_be_used_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="HARDVIEWS_CACHE"):
        ShardCache(str(tmp_path / "file"), 1)


def test_many_at_once_in_a_narrow_cache_miss_nothing(tmp_path: Path) -> None:
    """Files are counted, evicted, published and pinned at the same time: none may vanish under anybody."""
    index = write_dataset(str(tmp_path / "data"), [2] * 8)
    contents = {shard: (tmp_path / "data" / shard.name).read_bytes() for shard in index.shards}

    class Far(LocalStore):
        """A folder that is downloaded from without any delay."""

        def download(self, file: str, target: str, size: int) -> None:
            Path(target).write_bytes((tmp_path / "data" / file).read_bytes())

    # Five at once hold one shard each, and the cache holds five: it is always full.
    room = 5 * max(shard.size for shard in index.shards)

    def work(seed: int) -> int:
        cache, random = ShardCache(str(tmp_path / "cache"), room), Random(seed)
        store = Far(str(tmp_path / "data"))
        for _ in range(400):
            shard = random.choice(index.shards)
            descriptor = cache.open(store, shard)
            assert os.pread(descriptor, shard.size, 0) == contents[shard]
            os.close(descriptor)
        return cache.counts.evicted

    with ThreadPoolExecutor(5) as pool:
        assert sum(pool.map(work, range(5))) > 100


def test_a_file_that_goes_while_the_folder_is_looked_through_is_no_missing_shard(
    remote: tuple[Store, Index], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, index = remote
    cache = ShardCache(str(tmp_path / "cache"), 10**6)
    (tmp_path / "cache" / "another.tar.part").write_bytes(b"being fetched")

    def gone(path: str) -> bool:
        os.unlink(path)
        return False

    monkeypatch.setattr("hardviews.data.cache._unlink_unused", gone)
    os.close(cache.open(store, index.shards[0]))
