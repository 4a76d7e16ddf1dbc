"""Draws of labelled images: balanced, nested, and the same however the dataset is packed."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.cli import main
from hardviews.data.index import SAMPLE, Index
from hardviews.data.label_subset import Labels
from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.errors import UserError
from tests.data.helpers import Noise


def made(sizes: list[int], seed: int = 0) -> Index:
    """An index of classes of these sizes, in an order of its own."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    samples = np.zeros(len(labels), dtype=SAMPLE)
    samples["label"], samples["size"] = labels, 100 + np.arange(len(labels))
    samples["crc32"] = np.random.default_rng(1).integers(0, 2**32, len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    return Index("D", tuple(map(str, range(len(sizes)))), (), samples[order], 0, "")


def contents(index: Index, rows: list[int]) -> set[int]:
    return {int(index.samples["size"][row]) for row in rows}


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), per_cent=st.integers(1, 99), seed=st.integers(0, 5))
def test_a_share_is_balanced_and_lies_inside_a_larger_one(sizes: list[int], per_cent: int, seed: int) -> None:
    index = made(sizes)
    total = sum(sizes) * per_cent // 100
    if total < len(sizes):
        with pytest.raises(UserError, match="fewer than the"):
            Labels(per_cent=per_cent).draw(index, seed)
        return
    rows = Labels(per_cent=per_cent).draw(index, seed)
    counts = Counter(index.labels[rows].tolist())
    each = total // len(sizes)
    assert all(min(size, each) <= counts[label] <= min(size, each + 1) for label, size in enumerate(sizes))
    if min(sizes) > each:
        assert len(rows) == total
    assert set(rows) <= set(Labels(per_cent=min(100, per_cent + 7)).draw(index, seed))
    assert rows == sorted(set(rows))


def test_the_draw_knows_neither_order_nor_shards() -> None:
    first, second = made([30, 20, 25], seed=0), made([30, 20, 25], seed=3)
    labels = Labels(per_class=4)
    assert contents(first, labels.draw(first, 0)) == contents(second, labels.draw(second, 0))
    assert contents(first, labels.draw(first, 0)) != contents(first, labels.draw(first, 1))
    assert contents(first, labels.draw(first, 0)) < contents(first, Labels(per_class=9).draw(first, 0))


def test_all_labels_and_images_without_one() -> None:
    index = made([3, 9])
    assert Labels.read("100%").draw(index, 0) == list(range(12))
    index.samples["label"][:5] = -1
    assert Labels.read("100%").draw(index, 0) == list(range(5, 12))
    index.samples["label"] = -1
    with pytest.raises(UserError, match="none, or several each"):
        Labels.read("1-per-class").draw(index, 0)


@pytest.mark.parametrize("text", ["1", "0%", "101%", "-1%", "0-per-class", "x-per-class", "1 %", "nan%", ""])
def test_what_is_no_number_of_labels(text: str) -> None:
    with pytest.raises(UserError, match=r"Give a share of them, such as 1%"):
        Labels.read(text)


def test_a_part_of_a_packed_dataset_has_its_bytes_keys_and_labels(tmp_path: Path) -> None:
    for split, n in (("train", 60), ("test", 9)):
        pack(Noise(n), str(tmp_path / "all" / split), shard_bytes=20_000)
    main(["pack", "--source", str(tmp_path / "all"), "--labels", "5-per-class", "--out", str(tmp_path / "few")])
    whole, few = (Reader(str(tmp_path / name / "train")) for name in ("all", "few"))
    known = {sample.key: (sample.data, sample.label) for sample in whole.read(range(len(whole)))}
    found = {sample.key: (sample.data, sample.label) for sample in few.read(range(len(few)))}
    assert len(found) == 10
    assert Counter(label for _, label in found.values()) == {0: 5, 1: 5}
    assert all(known[key] == value for key, value in found.items())
    assert few.index.classes == whole.index.classes
    assert Index.load(str(tmp_path / "few" / "test")).samples["crc32"].tolist() != []
    assert len(Index.load(str(tmp_path / "few" / "test"))) == 9


def test_what_a_packed_source_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(Noise(20), str(tmp_path / "all"), shard_bytes=20_000)
    (tmp_path / "keys").write_text("noise_00001\n")
    for words, told in (
        (
            ["--source", str(tmp_path / "all"), "--labels", "50%", "--keys", str(tmp_path / "keys")],
            "is a packed dataset: --keys",
        ),
        (["--source", "digits", "--labels", "1%"], "--labels draws from a packed dataset, and digits is none"),
    ):
        with pytest.raises(SystemExit):
            main(["pack", *words, "--out", str(tmp_path / "out")])
        assert told in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
