"""Images with several classes each: the index, Pascal VOC, lists; and data sets without them are as they were."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.data.address import read_address
from hardviews.data.index import INDEX_NAME, LABEL_SETS_NAME, Index, encode_label_sets
from hardviews.data.joined import renumbered
from hardviews.data.list_file import ListFile
from hardviews.data.pack import pack
from hardviews.data.pack_command import Packing
from hardviews.data.reader import Reader
from hardviews.data.source import Item, LabelSet, iterate
from hardviews.data.voc import CLASSES
from hardviews.errors import UserError
from tests.data.helpers import flip_bit, web_server
from tests.data.layouts import picture, voc

OLD = Path(__file__).parent / "formats" / "version_1"
"""A data set of `Noise(6, side=8)` in shards of 6,000 bytes, written before there were sets of labels."""


class Repacked:
    """The images of a packed data set as a source, in the order in which they were packed."""

    def __init__(self, index: Index, sets: dict[str, LabelSet] | None = None) -> None:
        self.classes, self.sets = index.classes, sets
        samples = {sample.key: sample for sample in Reader(index).iterate_all()}
        self.samples = [samples[key] for key in sorted(samples)]

    def __len__(self) -> int:
        return len(self.samples)

    def key(self, i: int) -> str:
        return self.samples[i].key

    def read(self, i: int) -> Item:
        one = self.samples[i]
        if self.sets is None:
            return Item(one.key, one.data, "png", one.label, one.key)
        return Item(one.key, one.data, "png", -1, one.key, self.sets[one.key])


def test_an_index_of_the_version_before_is_read() -> None:
    index = Index.load(str(OLD))
    assert index.labels.tolist() == [0, 0, 1, 1, 0, 1] and index.labelled and not index.multi_label
    assert index.digest == "ba6b2e302d282901304f0f1e8feaa3ce8f2bb6d41a97d4757568139f52f7f9c5"


def test_a_data_set_without_label_sets_is_written_as_before(tmp_path: Path) -> None:
    pack(Repacked(Index.load(str(OLD))), str(tmp_path / "new"), shard_bytes=6000, progress=False)
    names = sorted(path.name for path in OLD.iterdir())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    assert [(tmp_path / "new" / name).read_bytes() for name in names] == [(OLD / name).read_bytes() for name in names]


def sets_of(index: Index) -> dict[str, LabelSet]:
    keys = sorted(sample.key for sample in Reader(index).iterate_all())
    choices = [LabelSet((0, 1)), LabelSet((), (1,)), LabelSet(), LabelSet((1,)), LabelSet((0,), (1,)), LabelSet((1,))]
    return dict(zip(keys, choices, strict=True))


def test_label_sets_are_kept_beside_the_samples(tmp_path: Path) -> None:
    old = Index.load(str(OLD))
    sets = sets_of(old)
    index = pack(Repacked(old, sets), str(tmp_path), shard_bytes=6000, progress=False)
    assert index.multi_label and not index.labelled and index.label_sets is not None
    expected = {
        key: [1 if i in one.present else -1 if i in one.ignored else 0 for i in (0, 1)] for key, one in sets.items()
    }
    found = [sample.key for sample in Reader(index).iterate_all()]
    assert index.label_sets.tolist() == [expected[key] for key in found]
    assert index.label_sets.dtype == np.int8 and isinstance(index.label_sets, np.memmap)
    assert json.loads((tmp_path / INDEX_NAME).read_text())["version"] == 2
    assert Index.head(str(tmp_path)).multi_label
    assert index.digest != old.digest
    with web_server(str(tmp_path)) as url:
        remote = Index.load(url)
        assert remote.digest == index.digest and np.array_equal(remote.label_sets, index.label_sets)
    # Other labels of the same images are another data set, and replace it whole.
    sets[found[0]] = LabelSet((0,), ()) if sets[found[0]] != LabelSet((0,), ()) else LabelSet()
    changed = pack(Repacked(old, sets), str(tmp_path), overwrite=True, shard_bytes=6000, progress=False)
    assert changed.digest != index.digest
    plain = pack(Repacked(old), str(tmp_path), overwrite=True, shard_bytes=6000, progress=False)
    assert plain.digest == old.digest and not (tmp_path / LABEL_SETS_NAME).exists()


def test_damaged_label_sets_are_refused(tmp_path: Path) -> None:
    old = Index.load(str(OLD))
    pack(Repacked(old, sets_of(old)), str(tmp_path / "data"), progress=False)
    for number, damage in enumerate((lambda file: flip_bit(str(file), 130), lambda file: file.unlink())):
        shutil.copytree(tmp_path / "data", tmp_path / str(number))
        damage(tmp_path / str(number) / LABEL_SETS_NAME)
        with pytest.raises(UserError, match=r"damaged: label_sets\.npy is missing"):
            Index.load(str(tmp_path / str(number)))


@settings(max_examples=50)
@given(st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=4, max_size=4), min_size=1, max_size=6))
def test_rows_of_label_sets_are_the_sets(rows: list[list[int]]) -> None:
    sets = [
        LabelSet(*(tuple(i for i, value in enumerate(row) if value == wanted) for wanted in (1, -1))) for row in rows
    ]
    raw = encode_label_sets(sets, 4)
    assert raw == encode_label_sets(sets, 4)
    assert np.frombuffer(raw[-4 * len(rows) :], np.int8).reshape(-1, 4).tolist() == rows


def test_a_class_of_voc_is_present_unless_all_its_objects_are_difficult(tmp_path: Path) -> None:
    images = [
        {"person": [0, 0], "dog": [1]},
        {"person": [1, 0], "car": [1, 1]},
        {"tvmonitor": [0]},
        {},
    ]
    root = voc(tmp_path / "root", {"train": images[:2], "val": images[2:], "trainval": images, "test": images[:1]})
    address = f"torchvision:VOCDetection?root={root}"
    parts = read_address(address).parts(lambda _: None)
    assert parts["train"].classes == CLASSES and len(CLASSES) == 20
    number = {name: i for i, name in enumerate(CLASSES)}
    assert [item.labels for item in iterate(parts["train"])] == [
        LabelSet((number["person"],), (number["dog"],)),
        LabelSet((number["person"],), (number["car"],)),
        LabelSet((number["tvmonitor"],)),
        LabelSet(),
    ]
    joined = read_address(f"{address}&split=train+val").parts(lambda _: None)["train"]
    assert [item.labels for item in iterate(joined)] == [item.labels for item in iterate(parts["train"])]
    first = next(iterate(joined))
    assert first.data == (root / "VOCdevkit/VOC2007/JPEGImages/000001.jpg").read_bytes() and first.label == -1
    packed = Packing(str(root), str(tmp_path / "out"), torchvision="VOCDetection").run()
    assert packed["train"].multi_label and len(packed["train"]) == 4 and len(packed["test"]) == 1


def test_annotations_that_are_not_those_of_voc_are_refused(tmp_path: Path) -> None:
    root = voc(tmp_path, {"trainval": [{"unicorn": [0]}], "test": [{}]})
    for text in (None, "<annotation>", "no xml"):
        if text is not None:
            (root / "VOCdevkit/VOC2007/Annotations/000001.xml").write_text(text)
        with pytest.raises(UserError, match=r"000001\.xml' are not annotations of Pascal VOC"):
            read_address(f"torchvision:VOCDetection?root={root}").parts(lambda _: None)


def test_a_list_with_several_labels_a_line(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "list").write_text("0.png cat,dog\n1.png dog\n2.png\tant, ?cat\n3.png\t\n4.png\t?dog,dog\n")
    source = ListFile.open(str(tmp_path / "list"))
    assert source.classes == ("ant", "cat", "dog")
    assert [item.labels for item in iterate(source)] == [
        LabelSet((1, 2)),
        LabelSet((2,)),
        LabelSet((0,), (1,)),
        LabelSet(),
        LabelSet((2,)),
    ]
    wider = renumbered(source, ("dog", "emu", "cat", "ant"))
    assert [item.labels for item in iterate(wider)][:3] == [LabelSet((2, 0)), LabelSet((0,)), LabelSet((3,), (2,))]


def test_reduced_images_keep_their_labels(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "list").write_text("".join(f"{i}.png a,b\n" for i in range(4)))
    index = Packing(str(tmp_path / "list"), str(tmp_path / "out"), hold_out=0, short=10).run()["train"]
    assert index.samples["height"].tolist() == [10] * 4
    assert index.label_sets is not None and (index.label_sets == 1).all()
