"""A folder of images as devices, systems and people leave it."""

import contextlib
import errno
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hardviews.data import folder as module
from hardviews.data.folder import ImageFolder
from hardviews.data.names import held_out_by, key, printable
from hardviews.data.pack import pack
from hardviews.data.pack_command import Packing
from hardviews.data.reader import Reader
from hardviews.data.scan import scan
from hardviews.data.source import iterate
from hardviews.errors import UserError


def save(path: Path, seed: int = 0, size: tuple[int, int] = (9, 12), format: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, format)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        for i in range(20):
            save(tmp_path / "photos" / name / f"{i}.jpg", i)
    return tmp_path / "photos"


def sides(folder: Path, share: float = 0.3) -> dict[str, str]:
    """The part of each image, by its name."""
    images = ImageFolder.open(str(folder))
    return {item.name: split for split in ("train", "test") for item in iterate(images.part(split, share))}


def left_out(folder: Path) -> str:
    return "; ".join(scan(str(folder)).left_out())


# The hold-out


def test_neighbours_never_move_an_image_across_the_hold_out(photos: Path) -> None:
    before = sides(photos)
    for i in range(20):
        save(photos / "cat" / f"{i}.png", i)  # the same stems
        save(photos / "cat" / f"{i}.JPEG", i)
        save(photos / "bird" / f"{i}.jpg", i)  # another class
        save(photos / "dog" / f"deep/{i}.jpg", i)
    save(photos / "cat_1.d" / "2.jpg")  # a path that differs from another in special characters alone
    save(photos / "cat" / "1_d_2.jpg")
    grown = sides(photos)
    assert {name: grown[name] for name in before} == before
    for path in (photos / "cat").glob("*.JPEG"):
        path.rename(path.with_name(f"renamed {path.name}"))
    (photos / "dog" / "3.jpg").unlink()
    again = sides(photos)
    assert {name: again[name] for name in before if name in again} == {n: s for n, s in before.items() if n in again}
    assert set(before) - set(again) == {"dog/3.jpg"}


def test_a_folder_around_the_classes_moves_no_image(photos: Path) -> None:
    wrapped = photos.parent / "set" / "images"
    wrapped.parent.mkdir()
    photos.rename(wrapped)
    before = sides(wrapped.parent)
    save(wrapped.parent / "labels" / "1.png")  # now it has to be recognised by its name
    assert sides(wrapped.parent) == before


def test_one_picture_in_two_formats_is_on_one_side(photos: Path) -> None:
    for i in range(20):
        save(photos / "cat" / f"{i}.png", i)
    found = sides(photos)
    assert all(found[f"cat/{i}.jpg"] == found[f"cat/{i}.png"] for i in range(20))
    assert set(found.values()) == {"train", "test"}


def test_names_that_were_held_out_before_still_are() -> None:
    # Of sets packed by earlier versions: the stem, special characters replaced.
    assert held_out_by("ant/v2.001.jpg") == "ant_v2_001"
    assert held_out_by("cat/deep/2.PNG") == "cat_deep_2"
    long = f"cat/{'x' * 90}.jpg"
    assert re.fullmatch(r"cat_x{59}-[0-9a-f]{16}", held_out_by(long))


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=100).filter(lambda b: not {0, 47} & set(b)))
def test_any_file_name_has_a_key_and_a_printable_name(name: bytes) -> None:
    path = os.fsdecode(name) + ".jpg"
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", key(path))
    assert key(path) != key(f"{path}.jpg")
    held_out_by(path).encode()
    printable(path).encode()


# Formats


def test_pictures_of_every_usual_extension_are_packed(tmp_path: Path) -> None:
    kinds = {
        "jfif": "JPEG",
        "jpe": "JPEG",
        "JPG": "JPEG",
        "Jpeg": "JPEG",
        "avif": "AVIF",
        "webp": "WEBP",
        "TIF": "TIFF",
    }
    kinds |= {"jp2": "JPEG2000", "bmp": "BMP", "gif": "GIF", "ppm": "PPM", "pgm": "PPM", "tga": "TGA", "apng": "PNG"}
    for extension, format in kinds.items():
        save(tmp_path / "in" / "cat" / f"a.{extension}", format=format)
    found = ImageFolder.open(str(tmp_path / "in"))
    index = pack(found.part(None), str(tmp_path / "out"), progress=False)
    assert (len(index), index.rejected) == (len(kinds), 0)
    assert {item.extension for item in iterate(found.part(None))} == {
        *("jpg", "png", "avif", "webp", "tif", "jp2", "bmp", "gif", "ppm", "pgm", "tga")
    }
    assert len({sample.key for sample in Reader(index).iterate_all()}) == len(kinds)


def test_what_is_not_named_like_an_image_is_counted(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("a.heic", "b.HEIC", "notes.txt", "README", "clip.mp4"):
        (photos / "cat" / name).write_bytes(b"x")
    (photos / "dog" / ".DS_Store").write_bytes(b"x")
    save(photos / "dog" / "._1.jpg")
    (photos / "bird" / "young").mkdir(parents=True)
    Packing(str(photos), str(tmp_path / "out"), hold_out=0).run()
    out = capsys.readouterr().out
    assert "5 files not named like an image: 2 .heic, 1 without, 1 .mp4, 1 .txt" in out
    assert "convert them to JPEG or PNG" in out
    assert "2 hidden files" in out
    assert "1 folder without an image: bird" in out
    assert "40 images of 2 classes" in out


# Folders that people did not make


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir",
        "@EADIR",
        "#recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "__MACOSX",
        ".thumbnails",
    ]
    + [".@__thumb", ".AppleDouble", ".ipynb_checkpoints", ".git", ".Trash-1000", "@Recycle", "_vti_cnf"],
)
def test_folders_made_by_machines_are_left_out(photos: Path, name: str) -> None:
    save(photos / name / "at the top.jpg")
    save(photos / "cat" / name / "1.jpg" / "SYNOPHOTO_THUMB_M.jpg")
    images = ImageFolder.open(str(photos))
    assert len(images.part(None)) == 40
    assert images.layout.train.classes == ("cat", "dog")
    assert f"2 folders that are hidden or made by machines: 2 {name}" in left_out(photos)


@pytest.mark.parametrize("name", ["@nasa", "#1", "$1_$5", "recycle", "thumbnails.d"])
def test_classes_with_unusual_names_stay_classes(photos: Path, name: str) -> None:
    save(photos / name / "1.jpg")
    assert name in ImageFolder.open(str(photos)).layout.train.classes


def test_linked_folders(photos: Path, tmp_path: Path) -> None:
    save(tmp_path / "pool" / "1.jpg")
    (tmp_path / "pool" / "back").symlink_to(photos)  # round and round
    (photos / "ant").symlink_to(tmp_path / "pool")
    (photos / "bee").symlink_to(tmp_path / "pool")  # the same images, on purpose
    (photos / "again").symlink_to(photos / "cat")  # read at its own place
    (photos / "cat" / "up").symlink_to("..")
    (photos / "cat" / "self").symlink_to("self")
    (photos / "cat" / "nowhere.jpg").symlink_to("nothing")
    images = ImageFolder.open(str(photos))
    assert images.layout.train.classes == ("ant", "bee", "cat", "dog")
    assert len(images.part(None)) == 43
    assert "4 folders linked to a place that is read anyway: again, ant/back, bee/back, cat/up" in left_out(photos)
    index = pack(images.part(None), str(tmp_path / "out"), progress=False)
    (reject,) = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert (len(index), reject["name"]) == (42, "cat/nowhere.jpg")


def test_a_link_into_a_hidden_store_is_followed(photos: Path) -> None:
    (photos / ".store").mkdir()
    (photos / "cat").rename(photos / ".store" / "a1")
    (photos / "cat").symlink_to(".store/a1")
    assert len(ImageFolder.open(str(photos)).part(None)) == 40


def test_a_folder_that_cannot_be_read_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.scandir
    denied = "cat"

    def scandir(path: str) -> object:
        if os.path.basename(path.rstrip("/")) == denied:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return whole(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "1 folder that cannot be read: cat (Permission denied)" in left_out(photos)
    denied = "photos"
    with pytest.raises(UserError, match=r"photos.*cannot be read: Permission denied"):
        scan(str(photos))


def test_names_that_are_not_utf_8(photos: Path, tmp_path: Path) -> None:
    odd = os.path.join(os.fsencode(photos), b"stra\xdfe")
    os.mkdir(odd)
    os.mkdir(os.path.join(os.fsencode(photos), b"vide\xe9"))
    (photos / "cat" / "1.jpg").rename(photos / "cat" / "one.jpg")
    with open(os.path.join(odd, b"\xff\xfe.jpg"), "wb") as stream:
        stream.write((photos / "dog" / "1.jpg").read_bytes())
    with open(os.path.join(odd, b"brok\xe8n.jpg"), "wb") as stream:
        stream.write(b"no image")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")  # as Python's own
    with contextlib.redirect_stdout(terminal):
        Packing(str(photos), str(tmp_path / "out"), hold_out=0).run()
        terminal.flush()
    printed = terminal.buffer.getvalue().decode()
    assert "41 images of 3 classes in 1 shards, 1 unreadable" in printed
    assert r"1 folder without an image: vide\xe9" in printed
    assert json.loads((tmp_path / "out/train/index.json").read_text())["classes"] == ["cat", "dog", r"stra\xdfe"]
    assert json.loads((tmp_path / "out/train/rejects.jsonl").read_text())["name"] == r"stra\xdfe/brok\xe8n.jpg"


# Files that are not pictures


def test_pipes_and_giants_are_rejects(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(photos / "cat" / "pipe.jpg")
    with open(photos / "cat" / "giant.tif", "wb") as stream:
        stream.truncate(module._MOST_BYTES + 1)
    index = pack(ImageFolder.open(str(photos)).part(None), str(tmp_path / "out"), progress=False)
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert {r["name"]: r["reason"].split(":")[0] for r in rejects} == {
        "cat/pipe.jpg": "not a regular file",
        "cat/giant.tif": f"{module._MOST_BYTES + 1} bytes",
    }
    assert len(index) == 40


def test_a_disk_that_goes_away_ends_the_pack(photos: Path, tmp_path: Path) -> None:
    source = ImageFolder.open(str(photos)).part(None)
    photos.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="went away"):
        pack(source, str(tmp_path / "out"), progress=False)
    assert not (tmp_path / "out").exists()


def test_too_many_open_files_are_not_the_images_fault(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", path)

    source = ImageFolder.open(str(photos)).part(None)
    monkeypatch.setattr(module, "read_file", full)
    with pytest.raises(UserError, match="ulimit -n"):
        pack(source, str(tmp_path / "out"), progress=False)


# Sources that are no folder of images


def test_places_that_are_no_folder_of_images_are_refused_with_what_to_do(photos: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    Packing(str(photos), str(packed)).run()
    (tmp_path / "shards").mkdir()
    for i in range(3):
        (tmp_path / "shards" / f"{i}.tar").write_bytes(b"x")
    cases = {
        "s3://bucket/photos": "aws s3 sync s3://bucket/photos images.*pack --source images",
        "gs://bucket/photos": "local folder",
        str(packed): "packed already.*--data",
        str(packed / "train"): "packed already",
        str(packed / "train" / "shard-000000.tar"): "Unpack tar files",
        str(tmp_path / "shards-{000..099}.tar"): "Unpack tar files",
        str(tmp_path / "shards"): "3 .tar.*unpack them first.*WebDataset",
        str(tmp_path / "nothing"): "There is no folder",
    }
    for source, words in cases.items():
        with pytest.raises(UserError, match=words):
            Packing(source, str(tmp_path / "out")).run()
    assert not (tmp_path / "out").exists()
    assert len(ImageFolder.open(f"file://{photos}").part(None)) == 40


# Pictures of any shape


@pytest.mark.parametrize("size", [(1, 30000), (30000, 1), (1, 1)])
def test_strips_are_packed(tmp_path: Path, size: tuple[int, int]) -> None:
    save(tmp_path / "in" / "cat" / "strip.png", size=size)
    index = pack(ImageFolder.open(str(tmp_path / "in")).part(None), str(tmp_path / "out"), short=256, progress=False)
    assert (index.samples["height"][0], index.samples["width"][0]) == size


def test_sides_that_no_index_or_jpeg_can_hold_are_rejects(tmp_path: Path) -> None:
    save(tmp_path / "in" / "cat" / "1.png")
    Image.new("L", (70000, 2)).save(tmp_path / "in" / "cat" / "wide.png")
    Image.new("L", (72000, 12)).save(tmp_path / "in" / "cat" / "reduced.png")
    pack(ImageFolder.open(str(tmp_path / "in")).part(None), str(tmp_path / "out"), short=11, progress=False)
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert {reject["name"]: reject["reason"].partition(":")[0] for reject in rejects} == {
        "cat/wide.png": "70000 x 2 pixels",
        "cat/reduced.png": "66000 x 11 pixels when reduced",
    }
