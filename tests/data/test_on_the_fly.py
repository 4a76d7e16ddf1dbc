"""Data sets that are packed into the cache: once, by one process, and again if they change."""

import multiprocessing
from pathlib import Path

import pytest

from hardviews.data import on_the_fly
from hardviews.data.index import Index
from hardviews.data.on_the_fly import packed_pair, packed_part, packed_parts
from hardviews.data.pack_command import Packing
from hardviews.errors import UserError
from tests.data.layouts import class_folders, dtd, list_of, picture


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARDVIEWS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


def test_the_packed_parts_are_those_of_the_command(tmp_path: Path) -> None:
    photos, root = class_folders(tmp_path / "photos", 12), dtd(tmp_path / "root")
    file = list_of(photos, tmp_path / "list.txt")
    forms = {
        str(photos): Packing(str(photos), str(tmp_path / "a")),
        str(file): Packing(str(file), str(tmp_path / "b")),
        f"torchvision:DTD?root={root}&split=train+val": Packing(
            str(root), str(tmp_path / "c"), torchvision="DTD", options=("split=train+val",)
        ),
    }
    for address, packing in forms.items():
        indices = packing.run()
        assert [Index.load(url).digest for url in packed_parts(address)] == [
            indices[split].digest for split in ("train", "test")
        ]


def test_it_is_packed_once_and_again_if_it_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = class_folders(tmp_path / "photos", 6)
    first = packed_parts(str(photos))
    assert first[0].endswith("/photos/train") and "packing" in capsys.readouterr().err
    assert packed_parts(f"{photos}/") == first and "packing" not in capsys.readouterr().err
    picture(photos / "red" / "red_00.png", 77)
    assert packed_parts(str(photos)) != first and "packing" in capsys.readouterr().err


def test_parts_that_are_named_by_themselves_share_the_classes(tmp_path: Path) -> None:
    class_folders(tmp_path / "a", 3, 0, ("ant", "bee", "cat"))
    class_folders(tmp_path / "b", 2, 1, ("cat", "bee"))
    Packing(str(tmp_path / "a"), str(tmp_path / "shards"), hold_out=0).run()
    for train in (f"{tmp_path}/a", f"{tmp_path}/shards/train"):
        first, second = packed_pair(train, f"{tmp_path}/b")
        assert Index.load(second).classes == Index.load(first).classes == ("ant", "bee", "cat")
        assert sorted(Index.load(second).labels.tolist()) == [1, 1, 2, 2]
    alone = packed_part(f"{tmp_path}/b", "test")  # its classes have other numbers, so it is packed by itself
    assert alone != second and sorted(Index.load(alone).labels.tolist()) == [0, 0, 1, 1]
    class_folders(tmp_path / "b", 1, 2, ("dog",))
    with pytest.raises(UserError, match="the training images lack, first dog"):
        packed_pair(f"{tmp_path}/a", f"{tmp_path}/b")


def test_images_without_labels_are_refused_before_they_are_packed(tmp_path: Path, cache: Path) -> None:
    picture(tmp_path / "flat" / "1.png", 0)
    for call in (lambda: packed_parts(f"{tmp_path}/flat"), lambda: packed_part(f"{tmp_path}/flat", "train")):
        with pytest.raises(UserError, match=r"Evaluation needs labels, and .*flat has none"):
            call()
    assert not cache.exists()


def _pack(address: str, barrier: "multiprocessing.synchronize.Barrier", found: "multiprocessing.Queue[object]") -> None:
    packed: list[str] = []
    original = on_the_fly.pack
    on_the_fly.pack = lambda source, url: (packed.append(url), original(source, url, progress=False))[1]  # type: ignore
    barrier.wait()
    found.put((packed_parts(address), len(packed)))


def test_processes_that_want_it_at_once_pack_it_once(tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", 15)
    context = multiprocessing.get_context("fork")
    barrier, found = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_pack, args=(str(photos), barrier, found)) for _ in range(3)]
    for process in processes:
        process.start()
    outcomes = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len({places for places, _ in outcomes}) == 1
    assert sorted(count for _, count in outcomes) == [0, 0, 2]  # the two parts


def test_a_pack_that_fails_or_was_killed_leaves_nothing_that_counts(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = class_folders(tmp_path / "photos", 6)

    def killed(source: object, url: str) -> None:
        Path(url).mkdir(parents=True)
        (Path(url) / "index.json").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(on_the_fly, "pack", killed)
        with pytest.raises(KeyboardInterrupt):
            packed_parts(str(photos))
        patch.setattr(on_the_fly.shutil, "rmtree", lambda *_, **__: None)  # a kill takes nothing back
        with pytest.raises(KeyboardInterrupt):
            packed_parts(str(photos))
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [".partial"]
    train, _ = packed_parts(str(photos))
    assert len(Index.load(train)) > 0
    assert [path.suffix for path in cache.iterdir() if path.is_dir()] == [""]
