"""Packing: reproducible bytes, readable by webdataset, nothing half-written."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zlib
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import webdataset
from PIL import Image

from hardviews.data import prepare
from hardviews.data.folder import image_folder
from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.data.source import Item
from hardviews.data.writer import Writer
from hardviews.errors import UserError
from hardviews.storage.store import open_store
from hardviews.views.decode import decode
from tests.data.helpers import Noise


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    source = Noise(60, broken=frozenset({7}))
    first = pack(source, str(tmp_path / "a"), shard_bytes=30_000, threads=1, progress=False)
    time.sleep(1.1)  # a time of writing inside a tar would differ now
    second = pack(source, str(tmp_path / "b"), shard_bytes=30_000, threads=4, progress=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first.digest == second.digest
    assert len(first.shards) > 2
    other = pack(source, str(tmp_path / "c"), shard_bytes=30_000, seed=1, progress=False)
    assert other.digest != first.digest


def test_the_index_agrees_with_the_tars(tmp_path: Path) -> None:
    source = Noise(50)
    index = pack(source, str(tmp_path), shard_bytes=30_000, progress=False)
    row = 0
    for number, shard in enumerate(index.shards):
        raw = (tmp_path / shard.name).read_bytes()
        assert (len(raw), zlib.crc32(raw)) == (shard.size, shard.crc32)
        assert len(raw) <= 30_000 + 10_240  # tarfile fills up to a record of 20 blocks
        with tarfile.open(tmp_path / shard.name) as tar:
            members = tar.getmembers()
        assert len(members) == 2 * shard.count
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o444)}
        for image, label in zip(members[::2], members[1::2], strict=True):
            sample = index.samples[row]
            assert (image.offset_data, image.size) == (sample["offset"], sample["size"])
            assert sample["shard"] == number
            data = raw[image.offset_data :][: image.size]
            assert zlib.crc32(data) == sample["crc32"]
            assert decode(data).shape == (sample["height"], sample["width"], 3)
            at = label.offset_data
            assert int(raw[at : at + label.size]) == sample["label"] == int(image.name[6:11]) % 2
            row += 1
    assert row == len(index) == 50
    # The shuffle is global: shards are not runs of the source.
    keys = [sample.key for sample in Reader(index).iterate_all()]
    assert sorted(keys) == [source.key(i) for i in range(50)] != keys


def test_plain_webdataset_reads_the_shards(tmp_path: Path) -> None:
    index = pack(Noise(40), str(tmp_path), shard_bytes=30_000, progress=False)
    names = [str(tmp_path / shard.name) for shard in index.shards]
    pipeline = webdataset.WebDataset(names, shardshuffle=False).decode("rgb8").to_tuple("__key__", "png", "cls")
    theirs = list(pipeline)
    ours = list(Reader(str(tmp_path)).iterate_all())
    assert [key for key, _, _ in theirs] == [sample.key for sample in ours]
    assert [label for _, _, label in theirs] == [sample.label for sample in ours]
    for (_, pixels, _), sample in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(pixels, decode(sample.data))


def test_unlabelled_images_have_no_label_member(tmp_path: Path) -> None:
    class Unlabelled(Noise):
        def read(self, i: int) -> Item:
            return replace(super().read(i), label=-1)

    index = pack(Unlabelled(5, classes=()), str(tmp_path), progress=False)
    with tarfile.open(tmp_path / index.shards[0].name) as tar:
        assert {name.split(".")[1] for name in tar.getnames()} == {"png"}
    assert not index.labelled
    assert set(index.labels) == {-1}


def test_unreadable_images_are_listed_and_left_out(tmp_path: Path) -> None:
    class Vanishing(Noise):
        def read(self, i: int) -> Item:
            if i == 4:
                raise FileNotFoundError(2, "No such file or directory", "/somewhere/4.png")
            return super().read(i)

    index = pack(Vanishing(20, broken=frozenset({3, 11})), str(tmp_path), progress=False)
    rejects = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert {reject["key"] for reject in rejects} == {"noise_00003", "noise_00004", "noise_00011"}
    assert all(reject["reason"] for reject in rejects)
    assert (len(index), index.rejected) == (17, 3)


def test_a_users_folder_with_broken_images(tmp_path: Path) -> None:
    for name, classes in (("a", "cat"), ("b", "cat"), ("c", "dog"), ("d", "dog")):
        (tmp_path / "in" / classes).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), "red").save(tmp_path / "in" / classes / f"{name}.jpg")
    cut, text, empty = (tmp_path / "in" / name for name in ("cat/cut.jpg", "dog/text.jpg", "dog/empty.png"))
    cut.write_bytes((tmp_path / "in/cat/a.jpg").read_bytes()[:-200])
    text.write_text("not an image")
    empty.write_bytes(b"")
    index = pack(image_folder(str(tmp_path / "in")), str(tmp_path / "out"), progress=False)
    rejects = [json.loads(line) for line in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    assert {reject["name"] for reject in rejects} == {"cat/cut.jpg", "dog/text.jpg", "dog/empty.png"}
    assert (len(index), index.rejected, index.classes) == (4, 3, ("cat", "dog"))
    assert sorted(index.labels) == [0, 0, 1, 1]


@pytest.mark.parametrize("error", [KeyError(6), SyntaxError("x"), RecursionError(), MemoryError(), ZeroDivisionError()])
def test_any_error_of_a_codec_is_one_reject(tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare.decode

    def decode_or_fail(data: bytes) -> object:
        if data == Noise(9).read(4).data:
            raise error
        return whole(data)

    monkeypatch.setattr(prepare, "decode", decode_or_fail)
    index = pack(Noise(9), str(tmp_path), progress=False)
    (reject,) = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert (len(index), reject["name"]) == (8, "noise/4")
    assert type(error).__name__ in reject["reason"]


def test_an_error_of_an_encoder_is_one_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def encode_or_fail(*_: object, **__: object) -> bytes:
        if next(calls) == 2:
            raise RuntimeError("no memory in the codec")
        return b"jpeg"

    monkeypatch.setattr(prepare.simplejpeg, "encode_jpeg", encode_or_fail)
    index = pack(Noise(9), str(tmp_path), short=4, progress=False, threads=1)
    assert (len(index), index.rejected) == (8, 1)


def test_when_no_image_is_readable_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="None of the 3 images"):
        pack(Noise(3, broken=frozenset(range(3))), str(tmp_path / "out"), progress=False)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no images"):
        pack(Noise(0), str(tmp_path / "out"), progress=False)


def test_short_reduces_only_what_is_larger(tmp_path: Path) -> None:
    index = pack(Noise(30, side=100, extension="jpg"), str(tmp_path / "s"), short=64, progress=False)
    original = pack(Noise(30, side=100, extension="jpg"), str(tmp_path / "o"), progress=False)
    kept = {sample.key: sample for sample in Reader(original).iterate_all()}
    reduced = 0
    for sample in Reader(index).iterate_all():
        height, width = decode(kept[sample.key].data).shape[:2]
        pixels = decode(sample.data)
        if min(height, width) <= 64:
            assert sample.data == kept[sample.key].data
            continue
        reduced += 1
        assert min(pixels.shape[:2]) == 64
        assert abs(pixels.shape[0] / pixels.shape[1] - height / width) < 0.02
    assert 0 < reduced < 30


def test_an_existing_dataset_is_refused_unless_overwritten(tmp_path: Path) -> None:
    first = pack(Noise(60), str(tmp_path), shard_bytes=20_000, progress=False)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="already holds"):
        pack(Noise(10), str(tmp_path), progress=False)
    assert contents(tmp_path) == before
    (tmp_path / "mine.txt").write_text("not ours")
    second = pack(Noise(10), str(tmp_path), overwrite=True, progress=False)
    assert len(first.shards) > len(second.shards) == 1
    assert set(os.listdir(tmp_path)) == {"mine.txt", "shard-000000.tar", "samples.npy", "index.json"}


class Failing(Noise):
    """A source whose reading fails in a way that nobody foresaw."""

    def read(self, i: int) -> Item:
        if i == 5:
            raise ZeroDivisionError
        return super().read(i)


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}{tmp_path}/out"
    with pytest.raises(ZeroDivisionError):
        pack(Failing(80), url, shard_bytes=10_000, progress=False)
    assert not (tmp_path / "out").exists()
    assert not fsspec.filesystem("memory").find(str(tmp_path))


def test_a_failed_overwrite_keeps_the_old_dataset(tmp_path: Path) -> None:
    pack(Noise(60), str(tmp_path), shard_bytes=20_000, progress=False)
    before = contents(tmp_path)
    with pytest.raises(ZeroDivisionError):
        pack(Failing(80), str(tmp_path), overwrite=True, progress=False)
    assert contents(tmp_path) == before


def test_what_a_killed_pack_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    program = (
        "import os, sys, hardviews.data.pack as m, hardviews.data.writer as w; from tests.data.helpers import Noise\n"
        "w.Writer.commit = lambda *a: os.kill(os.getpid(), 9)\n"
        "m.pack(Noise(60), sys.argv[1], shard_bytes=10_000, progress=False)"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, env=_environment(root), check=False
    )
    assert killed.returncode == -9
    assert [name.startswith(".packing-") for name in os.listdir(tmp_path)] == [True]
    with pytest.raises(UserError, match="no packed dataset"):
        Index.load(str(tmp_path))
    pack(Noise(3), str(tmp_path), progress=False)
    assert set(os.listdir(tmp_path)) == {"shard-000000.tar", "samples.npy", "index.json"}


def test_two_packs_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    with Writer(open_store(str(tmp_path)), 1000, []), pytest.raises(UserError, match="Another process"):
        pack(Noise(3), str(tmp_path), progress=False)


def test_packing_to_a_url(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/data"
    index = pack(Noise(40), url, shard_bytes=20_000, progress=False)
    local = pack(Noise(40), str(tmp_path / "local"), shard_bytes=20_000, progress=False)
    assert index.digest == local.digest
    with pytest.raises(UserError, match="already holds"):
        pack(Noise(3), url, progress=False)
    again = pack(Noise(3), url, overwrite=True, progress=False)
    assert sorted(name.rsplit("/", 1)[-1] for name in fsspec.filesystem("memory").find(url)) == [
        "index.json",
        "samples.npy",
        "shard-000000.tar",
    ]
    assert len(again) == 3


@pytest.mark.parametrize("key", ["a.b", "a/b", "", "x" * 91])
def test_keys_that_webdataset_would_misread_are_refused(tmp_path: Path, key: str) -> None:
    class Misnamed(Noise):
        def read(self, i: int) -> Item:
            return replace(super().read(i), key=key)

    with pytest.raises(UserError, match="cannot be packed"):
        pack(Misnamed(1), str(tmp_path / "out"), progress=False)
    assert not (tmp_path / "out").exists()


def test_an_exif_orientation_counts_in_the_size(tmp_path: Path) -> None:
    class Turned(Noise):
        def read(self, i: int) -> Item:
            stream = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.new("RGB", (30, 20)).save(stream, "JPEG", exif=exif)
            return Item("turned", stream.getvalue(), "jpg", 0, "turned.jpg")

    index = pack(Turned(1), str(tmp_path), progress=False)
    assert (int(index.samples["width"][0]), int(index.samples["height"][0])) == (20, 30)


def test_a_target_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        pack(Noise(1), str(tmp_path / "file"), progress=False)
    with pytest.raises(UserError, match="No way to open"):
        pack(Noise(1), "nowhere://x/y", progress=False)


def _environment(root: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{root / 'platform'}{os.pathsep}{root}"}
