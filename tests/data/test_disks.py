"""Disks that are full or fail while a dataset is packed or read."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.errors import UserError
from hardviews.storage.failures import DiskFailure
from hardviews.storage.store import open_store
from tests.data.helpers import Noise, web_server, write_dataset
from tests.fake_s3 import DENIED, FakeS3, Refusal

FULL = {
    errno.ENOSPC: "disk is full",
    errno.EDQUOT: "quota",
    errno.EIO: "input/output error",
    errno.EROFS: "only be read",
}


def failing(number: int, times: int = 10**9) -> Callable[..., bytes]:
    """Fail so many times in place of os.pread."""
    pread, left = os.pread, iter(range(times))

    def read(descriptor: int, size: int, offset: int) -> bytes:
        if next(left, None) is not None:
            raise OSError(number, "of the disk")
        return pread(descriptor, size, offset)

    return read


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_a_pack_onto_a_full_disk_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, fake_s3: FakeS3, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "of the disk")

    monkeypatch.setattr(webdataset.TarWriter, "write", fail)
    out = str(tmp_path / "out") if where == "folder" else f"{fake_s3.url}/out"
    with pytest.raises(DiskFailure, match=FULL[number]) as error:
        pack(Noise(3), out, progress=False)
    assert ("TMPDIR" in str(error.value)) == (where == "bucket")
    assert not (tmp_path / "out").exists() and not fake_s3.files


@pytest.mark.parametrize("number", FULL)
def test_a_cache_on_a_failing_disk_is_read_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    local = write_dataset(str(tmp_path / "data"), [5] * 3)
    expected = [sample.data for sample in Reader(local).read(range(15))]

    def fail(*_: object) -> int:
        raise OSError(number, "of the disk")

    with web_server(str(tmp_path / "data")) as url:
        index = Index.load(url)
        reader = Reader(index, ReaderConfig(ahead=0))
        monkeypatch.setattr(os, "pwrite", fail)
        assert [sample.data for sample in reader.iterate_all()] == [*map(bytes, expected)]
        reader.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and FULL[number] in told[0] and "read one by one" in told[0]
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix in (".tar", ".part")]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_a_shard_is_opened_once_more_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file server that was restarted has forgotten its handles."""
    index = write_dataset(str(tmp_path), [5] * 2)
    expected = [sample.data for sample in Reader(index).read(range(10))]
    reader = Reader(index)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing(number, 1))
        assert [sample.data for sample in reader.read(range(10))] == expected
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"shard-000000\.tar: "):
        patch.setattr(os, "pread", failing(number))
        reader.read([3])
    reader.close()


def test_a_table_that_cannot_be_kept_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    write_dataset(str(tmp_path / "data"), [5])

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with web_server(str(tmp_path / "data")) as url, pytest.raises(UserError, match=r"No space left.*HARDVIEWS_CACHE"):
        monkeypatch.setattr(os, "replace", fail)
        Index.load(url)
    assert not list((tmp_path / "cache" / "tables").iterdir())


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(404, "NoSuchBucket"), "There is no bucket"),
        (Refusal(400, "ExpiredToken"), "has expired"),
        (DENIED, "s3:GetObject"),
        (Refusal(501, "NotImplemented"), "not implemented"),
    ],
)
def test_what_goes_wrong_for_good_while_reading_ends_it_at_once(
    fake_s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal, words: str
) -> None:
    """A reader waits ten minutes for temporary failures."""
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    write_dataset(str(tmp_path / "data"), [5] * 3)
    fake_s3.files = {f"data/{path.name}": path.read_bytes() for path in (tmp_path / "data").iterdir()}
    reader = Reader(Index.load(f"{fake_s3.url}/data"), ReaderConfig(ahead=0))
    assert reader.read([0])
    fake_s3.rule = lambda *_: refusal
    with pytest.raises(UserError, match=words):
        reader.read([14])
    reader.close()


def test_a_write_names_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailure, match=r"too long"):
        open_store(str(tmp_path)).write("x" * 300, b"")
