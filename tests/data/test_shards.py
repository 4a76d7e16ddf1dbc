"""Open shards: released ones are closed, and shards fetched ahead give way to needed ones."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardviews.data.cache import CacheFull
from hardviews.data.index import Index
from hardviews.data.shards import OpenShards
from hardviews.storage.remote_store import RemoteStore
from tests.data.helpers import web_server, write_dataset


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    write_dataset(str(tmp_path / "data"), [10] * 4)
    with web_server(str(tmp_path / "data")) as url:
        yield Index.load(url)


def opened(shards: OpenShards) -> set[int]:
    return set(shards._open)


def arrive(shards: OpenShards) -> None:
    for future in shards._fetching.values():
        future.exception()


def test_only_what_is_kept_stays_open(tmp_path: Path) -> None:
    index = write_dataset(str(tmp_path), [10] * 4)
    shards = OpenShards(index, None, 0, ahead=1)
    before = len(os.listdir("/proc/self/fd"))
    shards.keep([0, 1], [2])
    assert opened(shards) == {0, 1, 2}
    shards.keep([1])
    assert opened(shards) == {1}
    assert len(os.listdir("/proc/self/fd")) == before + 1
    shards.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_shards_needed_soon_are_fetched_in_the_background(remote: Index) -> None:
    shards = OpenShards(remote, None, 10**6, ahead=2)
    shards.keep([0], [1, 2])
    arrive(shards)
    assert shards.cache is not None
    assert shards.cache.counts.fetched == 3
    for number in (0, 1, 2):
        shards.descriptor(number)
    assert shards.cache.counts.fetched == 3
    shards.close()


def test_what_was_fetched_ahead_gives_way(remote: Index) -> None:
    shards = OpenShards(remote, None, 2 * remote.shards[0].size, ahead=2)
    shards.keep([0], [1])
    arrive(shards)
    shards.keep([2], [0, 1])
    arrive(shards)  # which cannot have got 2: both places are taken
    assert os.fstat(shards.descriptor(2)).st_size == remote.shards[2].size
    # But shards that are needed at the same time do not.
    shards.keep([2, 3])
    shards.descriptor(3)
    shards.keep([2, 3, 0])
    with pytest.raises(CacheFull):
        shards.descriptor(0)
    shards.close()


def test_what_is_still_arriving_is_waited_for(remote: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    download = RemoteStore.download

    def slowly(self: RemoteStore, *arguments: object) -> None:
        time.sleep(0.2)
        download(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(RemoteStore, "download", slowly)
    shards = OpenShards(remote, None, remote.shards[0].size, ahead=1)
    shards.keep([1])
    time.sleep(0.05)  # its download has begun, and holds the only place
    shards.keep([0])
    shards._fetching.pop(0).cancel()
    assert os.fstat(shards.descriptor(0)).st_size == remote.shards[0].size
    shards.close()


def test_a_failure_ahead_of_time_is_tried_again_in_need(remote: Index, tmp_path: Path) -> None:
    path = tmp_path / "data" / remote.shards[1].name
    path.rename(tmp_path / "aside")
    shards = OpenShards(remote, None, 10**6, ahead=1)
    shards.keep([0], [1])
    arrive(shards)
    (tmp_path / "aside").rename(path)
    assert os.fstat(shards.descriptor(1)).st_size == remote.shards[1].size
    shards.close()
