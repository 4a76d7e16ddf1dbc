"""The index: missing, cut or foreign files are refused with a remedy."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from hardviews.data.index import INDEX_NAME, SAMPLE, SAMPLES_NAME, Index
from hardviews.errors import UserError
from tests.data.helpers import web_server, write_dataset


def test_the_table_is_mapped_and_small(tmp_path: Path) -> None:
    index = write_dataset(str(tmp_path), [3, 5])
    assert isinstance(index.samples, np.memmap)
    assert SAMPLE.itemsize == 28
    assert index.counts.tolist() == [3, 5]
    assert index.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert index.labelled
    assert len(index) == 8


def test_a_pickle_is_an_address(tmp_path: Path) -> None:
    index = write_dataset(str(tmp_path), [2000])
    raw = pickle.dumps(index)
    assert len(raw) < 500
    assert pickle.loads(raw).digest == index.digest
    write_dataset(str(tmp_path), [1999])
    with pytest.raises(UserError, match="replaced while it was in use"):
        pickle.loads(raw)


def test_the_digest_depends_on_content_and_not_on_place(tmp_path: Path) -> None:
    a, b, c = (write_dataset(str(tmp_path / name), counts) for name, counts in (("a", [4]), ("b", [4]), ("c", [5])))
    assert a.digest == b.digest != c.digest


def test_a_missing_index_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hardviews pack --source IMAGES --out FOLDER"):
        Index.load(str(tmp_path))
    with pytest.raises(UserError, match="no packed dataset"):
        Index.load("memory://nothing/here")


@pytest.mark.parametrize("keep", [0, 1, 40, 200])
def test_a_cut_index_is_refused(tmp_path: Path, keep: int) -> None:
    write_dataset(str(tmp_path), [4, 4])
    raw = (tmp_path / INDEX_NAME).read_bytes()
    (tmp_path / INDEX_NAME).write_bytes(raw[:keep])
    with pytest.raises(UserError, match="damaged"):
        Index.load(str(tmp_path))


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"format": "hardviews-shards", "version": 1}', "\xff"])
def test_a_foreign_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX_NAME).write_text(text, "latin-1")
    with pytest.raises(UserError, match="damaged"):
        Index.load(str(tmp_path))


def test_another_format_or_version_is_refused(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), [4])
    head = json.loads((tmp_path / INDEX_NAME).read_text())
    (tmp_path / INDEX_NAME).write_text(json.dumps(head | {"version": 3}))
    with pytest.raises(UserError, match="version 3"):
        Index.load(str(tmp_path))
    (tmp_path / INDEX_NAME).write_text(json.dumps(head | {"format": "mds"}))
    with pytest.raises(UserError, match="not the index of a hardviews dataset"):
        Index.load(str(tmp_path))


def test_an_altered_index_is_refused(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), [4, 4])
    head = json.loads((tmp_path / INDEX_NAME).read_text())
    head["shards"][0]["count"], head["shards"][1]["count"] = 3, 5
    (tmp_path / INDEX_NAME).write_text(json.dumps(head))
    with pytest.raises(UserError, match="contradicts its own digest"):
        Index.load(str(tmp_path))


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:-5] + b"\7" + raw[-4:], lambda raw: b""])
def test_a_damaged_table_is_refused(tmp_path: Path, damage) -> None:
    write_dataset(str(tmp_path), [4, 4])
    raw = (tmp_path / SAMPLES_NAME).read_bytes()
    (tmp_path / SAMPLES_NAME).write_bytes(damage(raw))
    with pytest.raises(UserError, match="damaged"):
        Index.load(str(tmp_path))
    (tmp_path / SAMPLES_NAME).unlink()
    with pytest.raises(UserError, match="damaged"):
        Index.load(str(tmp_path))


def test_a_remote_table_is_copied_once_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    local = write_dataset(str(tmp_path / "data"), [4, 4])
    with web_server(str(tmp_path / "data")) as url:
        remote = Index.load(url)
        assert remote.digest == local.digest
        np.testing.assert_array_equal(remote.samples, local.samples)
        (tmp_path / "data" / SAMPLES_NAME).unlink()
        assert Index.load(url).digest == local.digest  # from the copy
        (copy,) = (tmp_path / "cache" / "tables").iterdir()
        copy.write_bytes(copy.read_bytes()[:-1])
        with pytest.raises(UserError, match="damaged"):
            Index.load(url)
