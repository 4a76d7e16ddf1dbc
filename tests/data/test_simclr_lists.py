"""SimCLR's published lists: checked by their checksum, and found in a dataset by the names of its files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from hardviews.cli import main
from hardviews.data import simclr_lists
from hardviews.data.index import Index
from hardviews.data.label_subset import Labels
from hardviews.data.reader import Reader
from hardviews.data.simclr_lists import LISTS, PublishedList, read_names, rows_of
from hardviews.errors import UserError
from tests.data.helpers import Noise, web_server

SYNSETS = ("n01440764", "n04235860")
NAMES = ["n04235860_3.JPEG", "n01440764_2.JPEG", "n01440764_12.JPEG", "n04235860_0.JPEG"]
Make = Callable[..., PublishedList]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Write a small list under the name and the place of a published one, which no test can fetch."""

    def made(names: list[str] = NAMES, name: str = "simclr-1%") -> PublishedList:
        data = "".join(f"{line}\n" for line in names).encode()
        (tmp_path / LISTS[name].file).write_bytes(data)
        published = PublishedList(name, LISTS[name].file, len(names), hashlib.sha256(data).hexdigest())
        monkeypatch.setitem(LISTS, name, published)
        return published

    return made


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """A folder laid out as ImageNet: 14 training images of each of two classes, and three for testing."""
    for part, count in (("train", 14), ("val", 3)):
        for label, synset in enumerate(SYNSETS):
            (tmp_path / "imagenet" / part / synset).mkdir(parents=True)
            for number in range(count):
                name = f"{synset}_{number}" if part == "train" else f"ILSVRC2012_val_{number:08d}_{label}"
                item = Noise(99, extension="jpg").read(number + 20 * label + 50 * (part == "val"))
                (tmp_path / "imagenet" / part / synset / f"{name}.JPEG").write_bytes(item.data)
    return tmp_path / "imagenet"


def names_in(data: Path) -> set[str]:
    return {"_".join(key.rpartition("-")[0].split("_")[-2:]) + ".JPEG" for key in Reader(str(data)).read_keys()}


def test_the_checksums_are_those_that_are_published() -> None:
    one, ten = LISTS["simclr-1%"], LISTS["simclr-10%"]
    assert (one.images, one.sha256[:8], ten.images, ten.sha256[:8]) == (12_811, "71e82a48", 128_116, "6d09de11")
    assert {len(each.sha256) for each in (one, ten)} == {64}


def test_a_list_is_read_from_a_file_a_folder_and_a_server(publish: Make, tmp_path: Path) -> None:
    published = publish()
    with web_server(str(tmp_path)) as url:
        for place in (str(tmp_path), str(tmp_path / "1percent.txt"), url, f"{url}/1percent.txt"):
            assert read_names(published, place) == NAMES


def test_a_list_is_fetched_if_no_place_is_given(publish: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = publish()
    with web_server(str(tmp_path)) as url:
        monkeypatch.setattr(simclr_lists, "PLACE", url)
        assert read_names(published) == NAMES
    monkeypatch.setattr(simclr_lists, "PLACE", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"could not be fetched from .*Get .*--labels-list 1percent\.txt"):
        read_names(published)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data[:-20], "it has 2 lines and the list 4, so it may be cut"),
        (lambda data: data.replace(b"\n", b"\r\n"), "its lines end in the way of Windows"),
        (
            lambda data: data.replace(b"_3", b"_4"),
            "it has 4 lines and the list 4. The SHA-256",
        ),
        (lambda data: data + b"n01440764_5.JPEG\n", "it has 5 lines and the list 4"),
        (lambda _: b"", "it has 0 lines"),
    ],
    ids=["cut", "windows", "another image", "one more", "empty"],
)
def test_another_file_is_refused(publish: Make, tmp_path: Path, change: Callable[[bytes], bytes], told: str) -> None:
    published = publish()
    file = tmp_path / "1percent.txt"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(UserError, match=f"is not the list simclr-1%: {told}"):
        read_names(published, str(file))


def test_the_other_list_is_called_by_its_name(publish: Make, tmp_path: Path) -> None:
    publish([*NAMES, "n01440764_5.JPEG"], "simclr-10%")
    with pytest.raises(UserError, match="it is simclr-10%"):
        read_names(publish(), str(tmp_path / "10percent.txt"))
    with pytest.raises(UserError, match=r"cannot be read from .*there is no such file"):
        read_names(publish(), str(tmp_path / "none.txt"))


def test_images_are_found_in_class_folders_and_in_a_packed_dataset(
    publish: Make, imagenet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish()
    listed = ["--labels", "simclr-1%", "--labels-list", str(tmp_path)]
    main(["pack", "--source", str(imagenet), "--out", str(tmp_path / "all")])
    main(["pack", "--source", str(imagenet), "--out", str(tmp_path / "raw"), *listed])
    assert f"4 images of 2 classes in 1 shards, those of simclr-1% (SHA-256 {LISTS['simclr-1%'].sha256[:8]})" in (
        capsys.readouterr().out
    )
    main(["pack", "--source", str(tmp_path / "all"), "--out", str(tmp_path / "packed"), *listed])
    for found in ("raw", "packed"):
        assert names_in(tmp_path / found / "train") == set(NAMES)
        index = Index.load(str(tmp_path / found / "train"))
        assert index.classes == SYNSETS and sorted(index.labels.tolist()) == [0, 0, 1, 1]
        assert len(Index.load(str(tmp_path / found / "test"))) == 6


def test_missing_and_repeated_images_are_named(publish: Make, imagenet: Path, tmp_path: Path) -> None:
    main(["pack", "--source", str(imagenet), "--out", str(tmp_path / "all")])
    index = Index.load(str(tmp_path / "all" / "train"))
    published = publish([*NAMES, *(f"n01440764_9{number}.JPEG" for number in range(5))])
    with pytest.raises(UserError, match=r"5 of the 9 images .*n01440764_90\.JPEG, n01440764_91\.JPEG, n01440764_92"):
        rows_of(index, published, str(tmp_path))
    for copy in ("a", "b"):
        (imagenet / "train" / SYNSETS[0] / copy).mkdir()
        (imagenet / "train" / SYNSETS[0] / copy / "n01440764_77.JPEG").write_bytes(Noise(99).read(3).data)
    main(["pack", "--source", str(imagenet / "train"), "--hold-out", "0", "--out", str(tmp_path / "twice")])
    published = publish([*NAMES, "n01440764_77.JPEG"])
    with pytest.raises(UserError, match=r"1 images .* several times .*n01440764_77\.JPEG"):
        rows_of(Index.load(str(tmp_path / "twice" / "train")), published, str(tmp_path))


def test_mistakes_in_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["--labels-list", "x"], "name the list by --labels"),
        (["--labels", "10%", "--labels-list", "x"], "--labels 10% names none"),
        (["--labels", "simclr-2%"], "or a published list of ImageNet: simclr-1% or simclr-10%"),
    ):
        with pytest.raises(SystemExit):
            main(["pack", "--source", str(tmp_path), "--out", str(tmp_path / "out"), *words])
        assert told in capsys.readouterr().err


def test_records_name_the_labels() -> None:
    assert [str(Labels.read(text)) for text in ("10%", "0.5%", "16-per-class")] == ["10%", "0.5%", "16-per-class"]
    assert str(Labels.read("simclr-10%")) == "simclr-10% (SHA-256 6d09de11)"
