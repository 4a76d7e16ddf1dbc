"""A checkpoint counts only when it is whole, in a folder as in a bucket."""

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import fsspec
import pytest
import torch

from hardviews.errors import UserError
from hardviews.runs.checkpoint import HISTORY, Checkpoint, Checkpoints
from hardviews.runs.ledger import Range
from hardviews.runs.manifest import MANIFEST, Progress
from hardviews.storage.remote_store import RemoteStore
from hardviews.storage.store import Store, open_store

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(7), "none": torch.empty(0, dtype=torch.int64)}
PROGRESS = Progress(1, 16, "run", "recipe", "dataset", 1)
RANGES = (Range(1, 1, 0, 0, 16, 1, 1, 2**63 + 5),)
DATA = "__0_0.distcp"


@pytest.fixture(params=["folder", "bucket"])
def output(request: pytest.FixtureRequest, tmp_path) -> str:
    if request.param == "folder":
        return str(tmp_path)
    return f"{request.getfixturevalue('s3').bucket()}/runs/1"


def save(output: str, steps: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(output, keep, patience=10)
    for step in range(1, steps + 1):
        write(checkpoints, step)
    return checkpoints


def write(checkpoints: Checkpoints, step: int) -> None:
    tensors = {name: tensor + step for name, tensor in TENSORS.items()}
    checkpoints.save(tensors, replace(PROGRESS, step=step), RANGES, f'{{"step": {step}}}\n'.encode())


def latest(checkpoints: Checkpoints) -> Checkpoint:
    found = checkpoints.latest()
    assert found is not None
    return found


def test_what_is_saved_comes_back_and_old_ones_go(output: str) -> None:
    checkpoints = save(output, 4)
    found = latest(checkpoints)
    assert found.progress == replace(PROGRESS, step=4)
    assert found.ranges == RANGES
    assert found.history == b'{"step": 4}\n'
    assert {name: (t.dtype, t.shape) for name, t in found.tensors.items()} == {
        name: (t.dtype, t.shape) for name, t in TENSORS.items()
    }
    assert all(torch.equal(found.tensors[name], TENSORS[name] + 4) for name in TENSORS)
    assert checkpoints.names() == ["step-00000004", "step-00000003"]
    assert open_store(output).files() == []


def cut(store: Store, file: str) -> None:
    store.write(file, store.read(file)[:-1])


def flip(store: Store, file: str) -> None:
    data = bytearray(store.read(file))
    data[100] ^= 4
    store.write(file, bytes(data))


DAMAGES = [
    pytest.param(lambda store, step: store.remove(f"{step}/{MANIFEST}"), id="killed before the manifest"),
    pytest.param(lambda store, step: cut(store, f"{step}/{MANIFEST}"), id="manifest cut"),
    pytest.param(lambda store, step: flip(store, f"{step}/{MANIFEST}"), id="a bit of the manifest flipped"),
    pytest.param(lambda store, step: flip(store, f"{step}/{DATA}"), id="a bit flipped"),
    pytest.param(lambda store, step: cut(store, f"{step}/{DATA}"), id="a file cut"),
    pytest.param(lambda store, step: cut(store, f"{step}/{HISTORY}"), id="the history cut"),
    pytest.param(lambda store, step: store.remove(f"{step}/.metadata"), id="a file gone"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_falls_back_to_the_one_before(output: str, damage: Callable, caplog) -> None:
    checkpoints = save(output, 2)
    damage(checkpoints.store, "step-00000002")
    with caplog.at_level(logging.WARNING, "hardviews"):
        found = latest(checkpoints)
    assert found.progress.step == 1 and torch.equal(found.tensors["weight"], TENSORS["weight"] + 1)
    # The step is saved again over its remains.
    write(checkpoints, 2)
    assert latest(checkpoints).progress.step == 2


def test_without_a_whole_one_the_run_is_refused_and_nothing_is_lost(output: str) -> None:
    """A mount that fails looks the same as damage: the checkpoint may be whole again later."""
    checkpoints = save(output, 2)
    flip(checkpoints.store, f"step-00000001/{DATA}")
    checkpoints.store.write(f"step-00000002/{MANIFEST}", b"{")
    with pytest.raises(UserError) as refusal:
        checkpoints.latest()
    for words in (checkpoints.store.url, "step-00000001", "step-00000002", "mount", "give another --output"):
        assert words in str(refusal.value)
    flip(checkpoints.store, f"step-00000001/{DATA}")
    assert latest(checkpoints).progress.step == 1


def test_checkpoints_that_were_never_committed_are_none(output: str) -> None:
    checkpoints = save(output, 1)
    checkpoints.store.remove(f"step-00000001/{MANIFEST}")
    assert checkpoints.latest() is None
    assert Checkpoints(f"{output}/elsewhere").latest() is None


def test_another_versions_checkpoint_is_refused(output: str) -> None:
    checkpoints = save(output, 1)
    manifest = f"step-00000001/{MANIFEST}"
    content = json.loads(checkpoints.store.read(manifest)) | {"format": 99}
    checkpoints.store.write(manifest, json.dumps(content).encode())
    with pytest.raises(UserError, match="format 99"):
        checkpoints.latest()


def test_a_newer_one_that_appears_while_old_ones_go_is_found(tmp_path, monkeypatch) -> None:
    checkpoints = save(str(tmp_path), 2)
    read = Checkpoints._read

    def overtaken(self: Checkpoints, name: str, manifest):
        if name < "step-00000003":
            # While it was being read, the run went on: newer ones were saved and this one was removed.
            for step in (3, 4):
                write(save(str(tmp_path), 0), step)
        return read(self, name, manifest)

    monkeypatch.setattr(Checkpoints, "_read", overtaken)
    assert latest(checkpoints).progress.step == 4


def test_a_save_that_is_cut_off_leaves_the_ones_before(s3, monkeypatch) -> None:
    """The store goes away between the tensors and the manifest."""
    output = f"{s3.bucket()}/run"
    save(output, 2)
    checkpoints = Checkpoints(output, patience=0.5)
    put = RemoteStore.put

    def last_put(self: RemoteStore, source: str, file: str, move: bool = True) -> None:
        put(self, source, file, move)
        if file.endswith(DATA):
            s3.stop()

    with monkeypatch.context() as patch:
        patch.setattr(RemoteStore, "put", last_put)
        with pytest.raises(UserError):
            write(checkpoints, 3)
    s3.start()
    checkpoints = Checkpoints(output, patience=20)
    assert latest(checkpoints).progress.step == 2
    write(checkpoints, 3)
    assert latest(checkpoints).progress.step == 3
    assert checkpoints.names() == ["step-00000003", "step-00000002"]


def test_a_restore_waits_for_a_store_that_is_away_instead_of_beginning_again(s3) -> None:
    output = f"{s3.bucket()}/run"
    save(output, 1)
    s3.stop()
    with pytest.raises(UserError, match="could not be reached"):
        Checkpoints(output, patience=0.3).latest()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(latest, Checkpoints(output, patience=60))
        time.sleep(0.5)
        assert not found.done()
        s3.start()
        assert found.result().progress.step == 1


def test_a_restore_takes_few_requests(s3) -> None:
    checkpoints = save(f"{s3.bucket()}/run", 3)
    checkpoints = checkpoints.patient(10)
    assert latest(checkpoints).progress.step == 3
    # A list, the manifest, and for each of three files its size and its bytes.
    assert checkpoints.store.requests <= 8


def test_memory_is_a_store_too() -> None:
    checkpoints = save("memory://checkpoints-of-a-test", 2)
    assert latest(checkpoints).progress.step == 2
    fsspec.filesystem("memory").rm("/checkpoints-of-a-test", recursive=True)
