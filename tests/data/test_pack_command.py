"""`hardviews pack`: which parts a source becomes."""

import errno
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from hardviews.data.index import Index, dataset_around
from hardviews.data.pack import pack
from hardviews.data.pack_command import Packing
from hardviews.data.writer import Writer
from hardviews.errors import UserError
from hardviews.interrupts import GivenUp, listening
from hardviews.storage.failures import DiskFailure
from tests.data.helpers import Noise, write_dataset
from tests.fake_s3 import FakeS3


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for i in range(60):
        save(tmp_path / "photos" / ("cat" if i % 2 else "dog") / f"{i}.png", i)
    return tmp_path / "photos"


def test_a_folder_of_class_folders_is_held_out_from(classes: Path, tmp_path: Path) -> None:
    packed = Packing(str(classes), str(tmp_path / "out")).run()
    assert set(packed) == {"train", "test"}
    assert len(packed["train"]) + len(packed["test"]) == 60
    assert packed["train"].classes == packed["test"].classes == ("cat", "dog")
    assert Index.load(str(tmp_path / "out" / "train")).digest == packed["train"].digest


def test_nothing_is_held_out_on_request_nor_without_labels(classes: Path, tmp_path: Path) -> None:
    assert set(Packing(str(classes), str(tmp_path / "a"), hold_out=0).run()) == {"train"}
    for i in range(5):
        save(tmp_path / "flat" / f"{i}.png", i)
    packed = Packing(str(tmp_path / "flat"), str(tmp_path / "b")).run()
    assert set(packed) == {"train"}
    assert len(packed["train"]) == 5


def test_own_parts_stay_as_they_are(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 3)):
        for i in range(count):
            save(tmp_path / "own" / part / "cat" / f"{i}.png", i)
    packed = Packing(str(tmp_path / "own"), str(tmp_path / "out")).run()
    assert {split: len(index) for split, index in packed.items()} == {"train": 6, "test": 3}


def test_a_torchvision_dataset_without_parts_is_held_out_from(tmp_path: Path) -> None:
    packed = Packing(str(tmp_path), str(tmp_path / "out"), torchvision="FakeData", short=16).run()
    assert len(packed["train"]) + len(packed["test"]) == 1000
    assert 150 < len(packed["test"]) < 250
    with pytest.raises(UserError, match="Did you mean CIFAR10"):
        Packing(str(tmp_path), str(tmp_path / "c"), torchvision="CIFAR11").run()


def test_a_packed_part_is_not_touched_and_nothing_else_is_written(classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Packing("digits", str(out)).run()
    for file in (out / "train").iterdir():
        file.unlink()
    (out / "train").rmdir()
    with pytest.raises(UserError, match="already holds"):
        Packing(str(classes), str(out)).run()
    assert [path.name for path in out.iterdir()] == ["test"]
    assert set(Packing(str(classes), str(out), overwrite=True).run()) == {"train", "test"}


def test_shards_are_not_written_among_the_images(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(classes)
    (tmp_path / "own" / "train").mkdir(parents=True)
    (tmp_path / "own" / "train" / "cat").symlink_to(classes / "cat")
    monkeypatch.chdir(tmp_path)
    before = sorted(classes.rglob("*"))
    inside = [(classes, "photos"), ("photos", classes / "out"), ("link", "photos/cat/out"), (classes, "link/out")]
    for source, out in [*inside, ("own/train", "own")]:
        with pytest.raises(UserError, match=f"--out {out}: .* lies in --source {source}"):
            Packing(str(source), str(out)).run()
    assert sorted(classes.rglob("*")) == before
    # Beside the images, or hidden, they are in nobody's way.
    for out in ("photos-packed", "photos/.packed"):
        Packing("photos", out).run()
    assert len(Packing("photos", "again", hold_out=0).run()["train"]) == 60


@pytest.mark.parametrize("out", ["shards/train", "shards/test", "shards/train/a/b", "link", "link/train/a"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_dataset_inside_a_dataset_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, overwrite: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset("shards/train", [3])
    write_dataset("shards/test", [3])
    Path("link").symlink_to("shards/train")
    before = sorted(Path("shards").rglob("*"))
    with pytest.raises(UserError, match=f"^--out {out} lies in the packed dataset {tmp_path}/shards/t") as refusal:
        Packing("digits", out, overwrite=overwrite).run()
    assert "Give a folder outside of it" in str(refusal.value)
    assert sorted(Path("shards").rglob("*")) == before


def test_a_dataset_in_a_bucket_is_seen_from_below(fake_s3: FakeS3) -> None:
    pack(Noise(3), f"{fake_s3.url}/shards/photos", progress=False)
    assert dataset_around(f"{fake_s3.url}/shards/photos/a/b") == f"{fake_s3.url}/shards/photos"
    assert dataset_around(f"{fake_s3.url}/shards/photos/") == f"{fake_s3.url}/shards/photos"
    assert dataset_around(f"{fake_s3.url}/shards") is None
    assert dataset_around(f"{fake_s3.url}/shards/photos2") is None


def test_an_index_of_another_program_makes_no_dataset(tmp_path: Path) -> None:
    for text in ("{}", "[]", "{", '{"format": "other"}'):
        (tmp_path / "index.json").write_text(text)
        assert dataset_around(str(tmp_path / "out")) is None


def test_a_pack_that_fails_leaves_none_of_the_folders_that_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(webdataset.TarWriter, "write", fail)
    (tmp_path / "there").mkdir()
    for out in ("new/a/b", "there/a/b", "there"):
        with pytest.raises(DiskFailure, match="disk is full"):
            Packing("digits", str(tmp_path / out)).run()
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_an_impossible_share_is_refused(classes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--hold-out is 1\.0; it must be 0 or more and below 1 "):
        Packing(str(classes), str(tmp_path / "out"), hold_out=1.0)
    with pytest.raises(UserError, match=r"^--shard-bytes is 0; .* --short is 0; .* --quality is 101; .* 1 to 100"):
        Packing(str(classes), str(tmp_path / "out"), shard_bytes=0, short=0, quality=101)


@pytest.mark.parametrize("train", ["train", "Training"])
def test_a_flat_test_part_is_left_out_and_said(tmp_path: Path, train: str, capsys: pytest.CaptureFixture) -> None:
    for name in ("cat", "dog"):
        for i in range(30):
            save(tmp_path / "set" / train / name / f"{i}.png", i)
    save(tmp_path / "set" / "test" / "1.png", 1)
    packed = Packing(str(tmp_path / "set"), str(tmp_path / "a")).run()
    assert len(packed["train"]) + len(packed["test"]) == 60
    printed = capsys.readouterr().out
    assert "left out: test (1 images without labels)" in printed
    assert f"0.2 of the images in {train} are held out" in printed
    assert set(Packing(str(tmp_path / "set"), str(tmp_path / "b"), hold_out=0).run()) == {"train"}
    for name in ("cat", "dog"):
        save(tmp_path / "set" / "Val" / name / "1.png", 1)
    packed = Packing(str(tmp_path / "set"), str(tmp_path / "c")).run()
    assert {split: len(index) for split, index in packed.items()} == {"train": 60, "test": 2}
    printed = capsys.readouterr().out
    assert f"images in {train} are for training, in Val for testing" in printed
    assert "60 images of 2 classes" in printed


def test_images_without_labels_are_not_called_of_no_class(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save(tmp_path / "set" / "images" / "1.png", 1)
    save(tmp_path / "set" / "masks" / "1.png", 1)
    assert Packing(str(tmp_path / "set"), str(tmp_path / "out")).run()["train"].classes == ()
    printed = capsys.readouterr().out
    assert "left out: masks (1 images) beside images" in printed
    assert "1 images without labels in 1 shards" in printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_pack_that_is_asked_to_leave_twice_leaves_nothing(
    number: int, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    presses = [number]

    def leave(writer: Writer, *error: Any) -> None:
        for press in presses:
            signal.raise_signal(press)
        plain(writer, *error)

    plain = Writer.__exit__
    monkeypatch.setattr(Writer, "__exit__", leave)
    monkeypatch.setattr(Writer, "commit", lambda *_: signal.raise_signal(number))
    with pytest.raises((KeyboardInterrupt, SystemExit)), listening():
        Packing(str(classes), str(tmp_path / "out")).run()
    assert not (tmp_path / "out" / "train").exists()
    if number == signal.SIGINT:
        presses.append(number)
        with pytest.raises(GivenUp), listening():
            Packing(str(classes), str(tmp_path / "out")).run()
        assert "the same command packs it again" in capsys.readouterr().err
        assert not (tmp_path / "out" / "train" / "index.json").exists()
