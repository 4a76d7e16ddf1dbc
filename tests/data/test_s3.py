"""Datasets on a real S3 server: packed, streamed, through faults and outages, exactly once."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import webdataset
from webdataset.gopen import gopen_schemes

from hardviews.data.claim import Claim
from hardviews.data.counters import Counters
from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.prepare import prepared
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.data.shares import Portion
from hardviews.data.writer import Writer
from hardviews.errors import UserError
from hardviews.storage import filesystem, patience
from hardviews.storage import remote_store as storage
from hardviews.storage.store import open_store
from tests.data.helpers import Noise, content, write_dataset
from tests.data.test_pack import Failing
from tests.proxy import Proxy, proxy, wait_until
from tests.s3 import SeaweedFS

PLAN = {"seed": 3, "epoch": 1, "global_batch": 48, "group": 8}
SHARDS = [60] * 8


@pytest.fixture
def remote(s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Index]:
    """Eight shards on S3, and the same on disk."""
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    index = write_dataset(str(tmp_path / "data"), SHARDS, padding=4000)
    url = f"{s3.bucket()}/data"
    for path in sorted((tmp_path / "data").iterdir()):
        open_store(url).put(str(path), path.name, move=False)
    return url, index


def room(index: Index, shards: float, **more: object) -> ReaderConfig:
    return ReaderConfig(window=2, streams=1, ahead=1, cache_bytes=int(shards * index.shards[0].size), **more)  # type: ignore[arg-type]


def samples(reader: Reader, **more: int) -> list[tuple[int, int, bytes]]:
    shares = reader.iterate(Portion(**PLAN, **more))  # type: ignore[arg-type]
    return [(s.position, s.index, s.data) for share in shares for s in share.samples]


# Packing


def test_a_dataset_is_packed_to_s3(s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    url = f"{s3.bucket()}/data"
    index = pack(Noise(40), url, shard_bytes=20_000, progress=False)
    assert index.digest == pack(Noise(40), str(tmp_path / "local"), shard_bytes=20_000, progress=False).digest
    assert open_store(url).files() == sorted(os.listdir(tmp_path / "local"))
    with pytest.raises(UserError, match="already holds"):
        pack(Noise(3), url, progress=False)
    # Any reader of webdatasets reads it.
    monkeypatch.setitem(gopen_schemes, "s3", lambda name, *_: s3.client().open(name, "rb"))
    names = [f"{url}/{shard.name}" for shard in index.shards]
    keys = [sample["__key__"] for sample in webdataset.WebDataset(names, shardshuffle=False)]
    assert len(names) > 1
    assert sorted(keys) == [f"noise_{i:05d}" for i in range(40)]
    assert len(pack(Noise(3), url, overwrite=True, progress=False)) == 3
    assert open_store(url).files() == ["index.json", "samples.npy", "shard-000000.tar"]


def test_a_failed_pack_takes_back_what_it_published(s3: SeaweedFS) -> None:
    url = f"{s3.bucket()}/data"
    with pytest.raises(ZeroDivisionError):
        pack(Failing(80), url, shard_bytes=10_000, progress=False)
    assert open_store(url).files() == []


def test_two_packs_do_not_mix(s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    url = f"{s3.bucket()}/data"
    with pytest.raises(UserError, match="Another process"), Writer(open_store(url), 1000, []) as first:
        index = pack(Noise(40), url, shard_bytes=20_000, progress=False)
        for ready in prepared(Noise(3), range(3), None, 90, 1):  # type: ignore[arg-type]
            first.add(ready)
        first.commit(("even", "odd"))
    assert Index.load(url).digest == index.digest
    assert len(Reader(url).read(range(40))) == 40


_PACK = (
    "import sys; from hardviews.data.pack_command import Packing; "
    "Packing('digits', sys.argv[1], shard_bytes=50_000).run()"
)


def test_a_pack_that_is_asked_to_leave_takes_back_what_it_published(s3: SeaweedFS, tmp_path: Path) -> None:
    url = s3.bucket()
    folder = open_store(f"{url}/train")
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen([sys.executable, "-c", _PACK, url], stderr=said, stdout=said)
    try:
        wait_until(lambda: "shard-000001.tar" in folder.files(), 120)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) != 0
    finally:
        process.kill()
    assert folder.files() == []
    assert "Traceback" not in (tmp_path / "said").read_text()


def test_what_a_killed_pack_left_is_no_dataset_and_is_replaced(
    s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    store = open_store(f"{s3.bucket()}/data")
    Claim(store).take()
    for number in range(3):
        store.write(f"shard-{number:06d}.tar", b"of another packing")
    with pytest.raises(UserError, match="no packed dataset"):
        Index.load(store.url)
    pack(Noise(3), store.url, progress=False)
    assert store.files() == ["index.json", "samples.npy", "shard-000000.tar"]
    assert len(Reader(store.url).read(range(3))) == 3


def test_a_pack_goes_on_when_the_server_is_back(s3: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    url = f"{s3.bucket()}/data"

    class Interrupted(Noise):
        def read(self, i: int):
            if i == 30:
                s3.stop()
                threading.Timer(1, s3.start).start()
            return super().read(i)

    index = pack(Interrupted(60), url, shard_bytes=20_000, progress=False, threads=1)
    assert index.digest == pack(Noise(60), str(tmp_path / "local"), shard_bytes=20_000, progress=False).digest


# Streaming


@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_through_a_cache_smaller_than_the_dataset(
    remote: tuple[str, Index], tmp_path: Path, world: int
) -> None:
    url, local = remote
    config = room(local, 4)
    expected = samples(Reader(local, config))
    readers = [Reader(url, config) for _ in range(world)]
    iterators = [reader.iterate(Portion(**PLAN, rank=rank, world=world)) for rank, reader in enumerate(readers)]  # type: ignore[arg-type]
    found, total = [], Counters()
    for shares in zip(*iterators, strict=True):
        for share in shares:
            found += [(s.position, s.index, s.data) for s in share.samples]
            total = total + share.counters
    assert found == expected
    size = sum(shard.size for shard in local.shards)
    assert total.received >= size  # every shard came over the network
    assert total.received <= 1.3 * size  # and hardly any twice, also not for two readers
    assert total.fetched >= 8
    assert total.evicted >= 4
    assert (total.hits > 0) == (world > 1)
    assert total.retries == 0
    assert total.requests > 0
    for reader in readers:
        reader.close()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".part"]


def test_exactly_once_however_the_job_changes(remote: tuple[str, Index]) -> None:
    url, local = remote
    config = room(local, 3)
    expected = samples(Reader(local, config))
    seen: list[tuple[int, int, bytes]] = []
    consumed = 0
    for world, workers, steps in ((1, 1, 2), (3, 1, 3), (2, 2, 2), (1, 2, 99)):
        shares = []
        for rank in range(world):
            readers = [Reader(url, config) for _ in range(workers)]
            streams = [
                reader.iterate(Portion(**PLAN, consumed=consumed, rank=rank, world=world), worker=w, workers=workers)  # type: ignore[arg-type]
                for w, reader in enumerate(readers)
            ]
            for step in range(steps):
                share = next(streams[step % workers], None)
                if share is None:
                    break
                shares.append((share.start, share.first, share))
            for reader in readers:
                reader.close()
        for start, _, share in sorted(shares, key=lambda each: each[:2]):
            seen += [(s.position, s.index, s.data) for s in share.samples]
            consumed = start + PLAN["global_batch"]
    assert seen == expected


FAULTS = ("503", "reset", "cut", "flip")


def spoiling() -> Callable[[str, int], str]:
    """Return a chooser of faults: one in every third answer that holds a part of a shard.

    Bits are flipped only twice, since a third time might be once too often for the same sample.
    """
    flips = itertools.count()

    def choose(line: str, number: int) -> str:
        if "shard-" not in line or "GET" not in line or number % 3:
            return ""
        fault = FAULTS[number // 3 % len(FAULTS)]
        return "cut" if fault == "flip" and next(flips) >= 2 else fault

    return choose


@pytest.fixture
def through(s3: SeaweedFS, remote: tuple[str, Index], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """All reads go through a proxy."""
    monkeypatch.setattr(storage, "PART", 50_000)
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.02)
    with proxy(s3.port) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.port}")
        yield found


@pytest.mark.parametrize("shards", [4, 0.5])
def test_faults_are_survived_and_counted(remote: tuple[str, Index], through: Proxy, shards: float) -> None:
    url, local = remote
    reader = Reader(url, room(local, shards))
    through.choose = spoiling()
    shares = reader.iterate(Portion(**PLAN))  # type: ignore[arg-type]
    found = [s for _ in range(8 if shards > 1 else 2) for s in next(shares).samples]
    assert [(s.position, s.index, s.data) for s in found] == samples(Reader(local, room(local, shards)))[: len(found)]
    assert set(through.faults) == set(FAULTS)
    counters = reader.counters
    assert counters.retries >= len(through.faults) / 2  # a flipped bit may be noticed with another
    assert counters.corrupt == counters.substituted == 0
    assert (counters.direct > 0) == (shards < 1)
    assert counters.received <= through.sent
    reader.close()


def test_a_stalled_answer_is_given_up(
    remote: tuple[str, Index], through: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "_CONFIG", filesystem._CONFIG | {"read_timeout": 1})
    monkeypatch.setenv("AWS_PROFILE_UNUSED", "another client, with these timeouts")
    url, local = remote
    reader = Reader(url, room(local, 4))
    stalls = iter([3, 7])
    at = next(stalls)

    def choose(line: str, number: int) -> str:
        nonlocal at
        if number < at or "shard-" not in line:
            return ""
        at = next(stalls, 10**9)
        return "stall"

    through.choose = choose
    assert samples(reader) == samples(Reader(local, room(local, 4)))
    assert through.faults == ["stall", "stall"]
    assert reader.counters.retries >= 2
    reader.close()


def test_a_lasting_lie_about_a_shard_is_an_error(remote: tuple[str, Index], through: Proxy) -> None:
    url, _ = remote
    through.choose = lambda line, number: "flip" if "shard-000003" in line else ""
    with pytest.raises(UserError, match=r"shard-000003\.tar does not hold the bytes"):
        Reader(url).read(range(180, 240))


def test_a_restarted_server_pauses_the_reading(
    s3: SeaweedFS, remote: tuple[str, Index], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_WORD", 0.5)
    patience._told["at"] = -1e9
    url, local = remote
    reader = Reader(url, room(local, 3))
    shares = reader.iterate(Portion(**PLAN))  # type: ignore[arg-type]
    found = [(s.position, s.index, s.data) for s in next(shares).samples]
    s3.stop()
    threading.Timer(2, s3.start).start()
    began = time.monotonic()
    found += [(s.position, s.index, s.data) for share in shares for s in share.samples]
    assert time.monotonic() - began > 2
    assert found == samples(Reader(local, room(local, 3)))
    assert reader.counters.retries > 0
    said = [record.getMessage() for record in caplog.records]
    assert any("waiting for s3://" in line and "nothing listens at" in line for line in said)
    assert any("answers again" in line for line in said)
    reader.close()


def _read_on(url: str, config: ReaderConfig, ready) -> None:
    for share in Reader(url, config).iterate(Portion(**PLAN)):
        ready.put(share.last)
        time.sleep(0.05)


def test_a_reader_killed_at_any_time_leaves_a_sound_cache(remote: tuple[str, Index], tmp_path: Path) -> None:
    url, local = remote
    config = room(local, 3)
    context = multiprocessing.get_context("fork")
    for delay in (0.0, 0.1, 0.3):
        queue = context.SimpleQueue()
        child = context.Process(target=_read_on, args=(url, config, queue))
        child.start()
        time.sleep(0.15)
        if delay:
            queue.get()
            time.sleep(delay)
        child.kill()
        child.join()
    reader = Reader(url, config)
    assert samples(reader) == samples(Reader(local, config))
    reader.close()
    files = [path for path in (tmp_path / "cache").iterdir() if path.is_file() and path.suffix != ".lock"]
    assert sum(path.stat().st_size for path in files) <= config.cache_bytes
    assert all(path.suffix == ".tar" for path in files)


def test_a_missing_bucket_and_wrong_credentials_are_reported(
    s3: SeaweedFS, remote: tuple[str, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (lambda: Reader("s3://no-such-bucket/data"), lambda: pack(Noise(1), "s3://no-such-bucket/data")):
        with pytest.raises(UserError, match="no bucket 'no-such-bucket'"):
            command()
    for name, value in s3.read_only.items():
        monkeypatch.setenv(name, value)
    assert Reader(remote[0]).read([3])[0].data[:20] == content(3)[:20]
    with pytest.raises(UserError, match="denied"):
        pack(Noise(1), f"{remote[0]}-2", progress=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(UserError, match="signature"):
        Reader(remote[0])
