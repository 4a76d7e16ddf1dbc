"""Data sets in every form: options of torchvision, lists, keys, and classes that are matched by name."""

import re
from pathlib import Path

import pytest

from hardviews.data.address import is_unpacked, name_of_address, read_address
from hardviews.data.chosen import chosen, read_keys
from hardviews.data.given import Given, Parts
from hardviews.data.list_file import ListFile
from hardviews.data.pack_command import Packing
from hardviews.data.source import Source, iterate, path_of, stamp_of
from hardviews.data.torchvision_options import arguments, for_test
from hardviews.errors import UserError
from tests.data.layouts import caltech101, class_folders, dtd, eurosat, list_of, picture


def parts_of(address: str) -> Parts:
    return read_address(address).parts(lambda _: None)


def files(source: Source) -> list[str]:
    return [Path(path_of(source, i)).name for i in range(len(source))]


def test_options_of_torchvision_become_arguments_of_its_class() -> None:
    assert arguments("DTD", "train", {}) == {"": {"split": "train"}}
    assert arguments("DTD", "test", {"partition": "7"}) == {"": {"split": "test", "partition": 7}}
    assert arguments("DTD", "train", {"split": "train+val"}) == {"train": {"split": "train"}, "val": {"split": "val"}}
    assert arguments("CIFAR10", None, {"split": "test"}) == {"test": {"train": False}}
    assert arguments("OxfordIIITPet", "train", {}) == {"": {"split": "trainval"}}
    assert arguments("INaturalist", None, {"version": "2021_valid"}) == {"2021_valid": {"version": "2021_valid"}}
    assert arguments("INaturalist", None, {}) == {"": {}}
    assert arguments("Places365", "test", {"small": "yes"}) == {"": {"split": "val", "small": True}}
    assert arguments("FakeData", None, {"image_size": "3,8,9"}) == {"": {"image_size": (3, 8, 9)}}
    assert arguments("STL10", "train", {"folds": "2"}) == {"": {"split": "train", "folds": 2}}


def test_options_that_name_a_part_are_not_those_of_the_test_part() -> None:
    options = {"split": "train+val", "partition": "2"}
    assert for_test("DTD", options, {}) == {"partition": "2"}
    assert for_test("DTD", options, {"split": "val"}) == {"partition": "2", "split": "val"}
    assert for_test("INaturalist", {"version": "2021_train"}, {"version": "2021_valid"}) == {"version": "2021_valid"}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("DTD", {"partitoin": "1"}, r"no option 'partitoin'\. Did you mean partition\? Its options: partition, split"),
        ("DTD", {"partition": "one"}, "partition is 'one'; it takes whole numbers"),
        ("Places365", {"small": "maybe"}, "small is 'maybe'; it takes yes or no"),
        ("CIFAR10", {"split": "val"}, "has the parts train and test, and none named 'val'"),
        ("EuroSAT", {"split": "train"}, "EuroSAT has no option 'split'"),
        ("DTD", {"root": "x"}, "no option 'root'"),
    ],
)
def test_options_that_a_class_does_not_have_are_refused(name: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        arguments(name, None, options)


def test_parts_and_partitions_of_a_torchvision_set(tmp_path: Path) -> None:
    root = dtd(tmp_path)
    address = f"torchvision:DTD?root={root}"
    first, second = parts_of(address), parts_of(f"{address}&partition=2")
    assert [len(first[split]) for split in ("train", "test")] == [18, 18]
    assert set(files(second["train"])).isdisjoint(files(first["train"]))
    both = parts_of(f"{address}&split=train+val")
    assert len(both["train"]) == 36 and files(both["test"]) == files(first["test"])
    assert len({both["train"].key(i) for i in range(36)}) == 36
    assert [item.label for item in iterate(both["train"])] == [0] * 6 + [1] * 6 + [2] * 6 + [0] * 6 + [1] * 6 + [2] * 6
    assert files(parts_of(f"{address}&test.split=val")["test"]) == files(both["train"])[18:]
    with pytest.raises(UserError, match=r"DTD could not be opened.*Unknown value 'valid'"):
        parts_of(f"{address}&split=valid")


def test_a_set_that_is_not_there_says_what_to_fetch_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        parts_of(f"torchvision:DTD?root={tmp_path}/none")
    message = str(refusal.value)
    assert "get https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz" in message
    assert f"so that {tmp_path}/none holds dtd/dtd" in message and "download=yes" in message
    with pytest.raises(UserError, match=r"cars_test_annos_withlabels\.mat from a mirror"):
        parts_of(f"torchvision:StanfordCars?root={tmp_path}/none")


def test_sets_without_parts_are_divided_by_keys_or_by_a_hold_out(tmp_path: Path) -> None:
    root = eurosat(tmp_path / "root", 20)
    address = f"torchvision:EuroSAT?root={root}"
    whole = parts_of(address)
    assert len(whole["train"]) + len(whole["test"]) == 60 and 4 <= len(whole["test"]) <= 20
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text("blue/blue_00.png\n\nred_03.png\neurosat_00000021\n")
    test.write_text("green/green_00.png\nred_04.png\n")
    some = parts_of(f"{address}&keys={train}&test.keys={test}")
    assert files(some["train"]) == ["blue_00.png", "green_01.png", "red_03.png"]
    assert files(some["test"]) == ["green_00.png", "red_04.png"]
    others = parts_of(f"{address}&keys={train}")
    assert len(others["test"]) == 57 and set(files(others["test"])).isdisjoint(files(others["train"]))
    assert len(parts_of(f"{address}&test.keys={test}")["train"]) == 58
    test.write_text("red_03.png\n")
    with pytest.raises(UserError, match=r"1 images are in .*train\.txt' and in .*test.txt', first 'eurosat_00000043'"):
        parts_of(f"{address}&keys={train}&test.keys={test}")


def test_keys_that_name_nothing_or_too_much_are_refused(tmp_path: Path) -> None:
    root = caltech101(tmp_path / "root")
    source = read_address(f"torchvision:Caltech101?root={root}").parts(lambda _: None)["train"]
    assert source.classes == ("blue", "green", "red")
    whole = Given(str(root), "Caltech101").whole("train", lambda _: None)
    assert files(chosen(whole, ["red/image_0002.jpg"], "f")) == ["image_0002.jpg"]
    with pytest.raises(UserError, match=r"'image_0002.jpg' in 'f' names 3 images, for example .*blue/image_0002.jpg'"):
        chosen(whole, ["image_0002.jpg"], "f")
    keys = [f"red/{name}.jpg" for name in "abcd"]
    with pytest.raises(UserError, match=r"4 of the 5 keys in 'f' name no image: red/a.jpg, red/b.jpg, red/c.jpg\. "):
        chosen(whole, [*keys, "caltech101_00000000"], "f")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        read_keys(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_keys(str(tmp_path / "none"))


@pytest.mark.parametrize("separator", ["\t", " ", "   "])
def test_a_list_file(tmp_path: Path, separator: str) -> None:
    class_folders(tmp_path / "some where", 3)
    source = ListFile.open(str(list_of(tmp_path / "some where", tmp_path / "list.txt", separator)))
    assert source.classes == ("blue", "green", "red") and len(source) == 9
    found = {item.name: item.label for item in iterate(source)}
    assert found["some where/green/green_01.png"] == 1
    assert next(iterate(source)).data == (tmp_path / "some where/blue/blue_00.png").read_bytes()


def test_labels_that_are_numbers_are_classes_in_the_order_of_their_values(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "list").write_text("0.png 10\n1.png 9\n2.png 10\n")
    source = ListFile.open(str(tmp_path / "list"))
    assert source.classes == ("9", "10") and [item.label for item in iterate(source)] == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png\n", "Line 1 of .* is 'a.png'"),
        ("\tx\n", "Line 1"),
        ("a.png\t\n", "The image 'a.png' in the list .* has no label"),
        ("", "is empty"),
        ("a.png x\nb.png x\nc.png y\n", r"2 of the 3 files in the list .* are not there: b.png, c.png\. Paths are rel"),
        ("a.png x\na.png y\n", "names 'a.png' twice"),
    ],
)
def test_lists_with_mistakes_are_refused(tmp_path: Path, text: str, words: str) -> None:
    picture(tmp_path / "a.png", 0)
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        ListFile.open(str(tmp_path / "list.txt"))


def test_the_forms_of_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(Path("photos"), 2)
    class_folders(Path("odd?name"), 1)
    list_of(Path("photos"), Path("list.txt"))
    Packing("photos", "shards", hold_out=0).run()
    Path("cut/train").mkdir(parents=True)  # a pack that was interrupted
    Path("cut/train/shard-000000.tar").touch()
    packed = ["shards", "shards/train", "none", "s3://bucket/photos", "cut", "cut/train"]
    assert [place for place in packed if is_unpacked(place)] == []
    unpacked = ["photos", "photos/", "list.txt", "list.txt?keys=k", "odd?name", "torchvision:DTD?partition=2", "."]
    # The folder of all of it holds shards in a folder of their own: it is not packed itself.
    assert [place for place in unpacked if not is_unpacked(place)] == []
    assert [name_of_address(place) for place in unpacked[:6]] == [
        *("photos", "photos", "list", "list", "odd?name", "DTD.2")
    ]
    assert name_of_address("torchvision:DTD?split=train+val&root=x") == "DTD"
    monkeypatch.setenv("HARDVIEWS_CACHE", "cache")
    assert read_address("torchvision:DTD").place == "cache/torchvision"
    given = read_address("torchvision:DTD?root=a%26b&download=yes&split=train+val&test.split=val&keys=k&test.keys=l")
    assert (given.place, given.download, given.keys, given.test_keys) == ("a&b", True, "k", "l")
    assert (given.options, given.test_options) == ({"split": "train+val"}, {"split": "val"})
    for address, words in (
        ("torchvision:DTD?partition", "'partition' is not an option. Write key=value"),
        ("torchvision:DTT", "Did you mean DTD"),
        ("photos?split=train", "'split' is not an option of a folder or a list"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            read_address(address)


def test_classes_are_matched_by_name_and_not_by_their_place(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 2, 0, ("ant", "bee", "cat"))
    class_folders(tmp_path / "test", 2, 1, ("cat", "bee"))
    given = Given(str(tmp_path / "train"), test=str(tmp_path / "test"))
    test = given.parts(lambda _: None)["test"]
    assert test.classes == ("ant", "bee", "cat")
    assert {item.name.split("/")[0]: item.label for item in iterate(test)} == {"bee": 1, "cat": 2}
    class_folders(tmp_path / "test", 1, 2, ("dog",))
    with pytest.raises(UserError, match="1 classes that the training images lack, first dog"):
        given.parts(lambda _: None)


def test_a_stamp_changes_with_files_labels_and_keys(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photos", 3)
    address = str(folder)

    def stamp() -> str:
        return " ".join(stamp_of(source) for source in parts_of(address).values())

    before = stamp()
    assert stamp() == before
    picture(folder / "red" / "red_00.png", 99)
    changed = stamp()
    (folder / "red" / "red_01.png").rename(folder / "green" / "red_01.png")
    moved = stamp()
    (tmp_path / "keys").write_text("red_00.png\nblue_01.png\n")
    address += f"?keys={tmp_path}/keys"
    assert len({before, changed, moved, stamp()}) == 4
