"""Sources: keys, labels, splits, and refusals."""

import inspect
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import datasets

from hardviews.data.folder import image_folder
from hardviews.data.known_sources import digits
from hardviews.data.names import key
from hardviews.data.pack_command import Packing
from hardviews.data.photographs import photographs
from hardviews.data.source import hold_out, iterate
from hardviews.data.torchvision_options import CLASSIFICATION, has_test_part
from hardviews.data.torchvision_source import TorchvisionDataset, torchvision_dataset
from hardviews.errors import UserError
from tests.data.helpers import Noise


def save(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (colour, 0, 0)).save(path)


def test_digits_are_split_by_class_and_are_the_originals() -> None:
    from sklearn.datasets import load_digits

    train, test = digits("train"), digits("test")
    assert (len(train), len(test), len(digits())) == (1442, 355, 1797)
    assert not {train.key(i) for i in range(len(train))} & {test.key(i) for i in range(len(test))}
    assert set(np.bincount([item.label for item in iterate(test)])) == {34, 35, 36}
    item = test.read(17)
    number = int(item.key.removeprefix("digit_"))
    image = np.asarray(Image.open(io.BytesIO(item.data)))
    assert image.shape == (32, 32, 3)
    assert item.label == load_digits().target[number]
    assert np.corrcoef(image[2::4, 2::4, 0].ravel(), load_digits().images[number].ravel())[0, 1] > 0.9


def test_photographs_are_tiles_and_no_pixel_is_in_both_parts() -> None:
    train, test = photographs("train"), photographs("test")
    assert (len(train), len(test)) == (4442, 773)
    assert set(train.classes) == {"china", "flower", "hopper"}
    for part in (train, test):
        assert {item.label for item in iterate(part)} == {0, 1, 2}
        assert len({part.key(i) for i in range(len(part))}) == len(part)
    for photograph in range(3):
        right = max(left + train.size for p, _, left in train.places if p == photograph)
        assert right <= min(left for p, _, left in test.places if p == photograph)


def test_a_tile_is_a_part_of_its_photograph() -> None:
    from sklearn.datasets import load_sample_image

    tiles = photographs()
    i = tiles.places.index((0, 32, 64))
    assert tiles.key(i) == "china_0032_0064"
    assert np.array_equal(Image.open(io.BytesIO(tiles.read(i).data)), load_sample_image("china.jpg")[32:80, 64:112])


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "cat/deep/2.PNG", "ant/v2.001.jpg", "ant/v2.002.jpg", "ant/.hidden.jpg", "ant/notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("notes")
        else:
            save(tmp_path / name)
    source = image_folder(str(tmp_path))
    found = {item.name: (item.key, item.extension, item.label) for item in iterate(source)}
    assert source.classes == ("ant", "cat")
    assert found == {
        "ant/v2.001.jpg": (key("ant/v2.001.jpg"), "jpg", 0),
        "ant/v2.002.jpg": (key("ant/v2.002.jpg"), "jpg", 0),
        "cat/1.jpg": (key("cat/1.jpg"), "jpg", 1),
        "cat/deep/2.PNG": (key("cat/deep/2.PNG"), "png", 1),
    }


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    save(tmp_path / "b.jpg")
    save(tmp_path / "a.jpg")
    source = image_folder(str(tmp_path))
    assert source.classes == ()
    assert [(item.key, item.label) for item in iterate(source)] == [(key("a.jpg"), -1), (key("b.jpg"), -1)]


def test_loose_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "cat/1.jpg")
    save(tmp_path / "stray.jpg")
    with pytest.raises(UserError, match=r"stray\.jpg"):
        image_folder(str(tmp_path))


def test_linked_folders_are_followed_but_not_round_and_round(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/1.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "data")
    assert [item.key for item in iterate(image_folder(str(tmp_path / "data")))] == [key("cat/1.jpg")]


def test_train_and_test_folders_share_the_classes(tmp_path: Path) -> None:
    for name in ("train/ant/1.jpg", "train/cat/2.jpg", "val/cat/3.jpg"):
        save(tmp_path / name)
    test = image_folder(str(tmp_path), "test")
    assert test.classes == ("ant", "cat")
    assert [(item.key, item.label) for item in iterate(test)] == [(key("val/cat/3.jpg"), 1)]
    with pytest.raises(UserError, match="train and val"):
        image_folder(str(tmp_path))
    save(tmp_path / "val/dog/4.jpg")
    with pytest.raises(UserError, match="dog"):
        image_folder(str(tmp_path), "test")


def test_hold_out_is_stable_when_images_are_added() -> None:
    small, large = Noise(300), Noise(600)
    for split in ("train", "test"):
        before = {hold_out(small, split, 0.2).key(i) for i in range(len(hold_out(small, split, 0.2)))}
        after = {hold_out(large, split, 0.2).key(i) for i in range(len(hold_out(large, split, 0.2)))}
        assert before <= after
    train, test = hold_out(large, "train", 0.2), hold_out(large, "test", 0.2)
    assert len(train) + len(test) == 600
    assert 80 < len(test) < 160
    with pytest.raises(UserError, match="leaves one side empty"):
        hold_out(Noise(1), "test", 0.2)
    with pytest.raises(UserError, match="between 0 and 1"):
        hold_out(small, "test", 1.5)


def test_a_split_needs_folders_or_a_hold_out(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / f"cat/{i}.jpg")
    with pytest.raises(UserError, match="hold_out"):
        image_folder(str(tmp_path), "train")
    assert len(image_folder(str(tmp_path), "train", 0.3)) + len(image_folder(str(tmp_path), "test", 0.3)) == 40


@settings(max_examples=200)
@given(st.sets(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=120)))
def test_keys_are_valid_and_unique_for_any_paths(names: set[str]) -> None:
    paths = [f"{name}{extension}" for name in names for extension in (".jpg", ".JPG", ".png")]
    keys = [key(path) for path in paths]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", made) for made in keys)


class Undecodable:
    """A dataset of torchvision's kind whose second image no decoder takes."""

    classes = ("cat",)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        if i == 1:
            raise KeyError(6)
        return Image.new("RGB", (2, 2)), 0


def test_torchvision_datasets(tmp_path: Path) -> None:
    source = torchvision_dataset("FakeData", str(tmp_path))
    item = source.read(3)
    assert (item.key, item.extension) == ("fakedata_00000003", "png")
    assert np.asarray(Image.open(io.BytesIO(item.data))).shape == (224, 224, 3)
    assert 0 <= item.label < len(source.classes) == 10
    with pytest.raises(ValueError, match="KeyError: 6"):  # a decoder's error is that of one image
        TorchvisionDataset(Undecodable(), "Odd").read(1)
    with pytest.raises(UserError, match=r"Did you mean CIFAR10.*Supported are .*, SVHN, "):
        torchvision_dataset("CIFAR11", str(tmp_path))
    with pytest.raises(UserError, match="no train and test parts"):
        torchvision_dataset("FakeData", str(tmp_path), "test")
    with pytest.raises(UserError, match="no class labels"):
        TorchvisionDataset([(Image.new("RGB", (2, 2)), {"boxes": []})], "VOCDetection")


@pytest.mark.parametrize("name", [name for name in CLASSIFICATION if name not in ("FakeData", "ImageFolder")])
def test_a_torchvision_dataset_that_is_not_there_is_downloaded_by_our_option(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be opened") as error:
        torchvision_dataset(name, str(tmp_path), "train" if has_test_part(name) else None)
    message = str(error.value)
    assert "download=True" not in message
    assert ("add --download." in message) == ("download" in inspect.signature(getattr(datasets, name)).parameters)
    # Its parts and arguments are those that torchvision knows.
    assert not any(word in message for word in ("Unknown value", "unexpected keyword", "missing 1 required"))


@pytest.mark.parametrize(
    "name", ["CocoDetection", "EMNIST", "UCF101", "VisionDataset", "VOCSegmentation", "wrap_dataset"]
)
def test_other_datasets_of_torchvision_are_refused_with_the_supported_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name}.*Supported are CIFAR10, ") as error:
        Packing(str(tmp_path), str(tmp_path / "out"), torchvision=name).run()
    assert "__init__" not in str(error.value)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No images"):
        image_folder(str(tmp_path))
    with pytest.raises(UserError, match="no folder"):
        image_folder(str(tmp_path / "missing"))
