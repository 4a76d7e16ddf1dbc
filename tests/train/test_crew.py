"""A loader worker that ends, stands still or cannot send costs a pause: the batches are the same."""

import errno
import gc
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from hardviews.data.reader import Reader
from hardviews.data.shares import Portion
from hardviews.errors import UserError
from hardviews.train import crew
from hardviews.train.crew import check_crew
from hardviews.train.loader import Crash, LoaderConfig, RawBatch, Refusal, ShareDataset, load
from hardviews.train.nursery import nursery
from hardviews.train.parcel import Parcel
from hardviews.train.trainer import Trainer
from hardviews.world import World
from tests.elastic.processes import parent
from tests.train.runs import simclr
from tests.train.test_loader import equal

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

CPU = torch.device("cpu")
LOADER = LoaderConfig(workers=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look often, and fork workers from a process that has imported everything."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))
    monkeypatch.setattr(crew, "_LOOK", 0.1)
    with nursery(2):
        yield


class Doomed(ShareDataset):
    """Meets its end in a worker, before its first micro-batch."""

    kind = ""

    def _batches(self, worker: int, workers: int) -> Iterator[RawBatch]:
        _meet(self.kind)
        return super()._batches(worker, workers)


class Local(Exception):
    def __init__(self) -> None:
        super().__init__("this one", lambda: "cannot be pickled")


def _meet(kind: str) -> None:
    if kind == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/shard")
    if kind == "files":
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if kind == "memory":
        raise MemoryError
    if kind == "code":
        raise Local
    os.kill(os.getpid(), getattr(signal, kind))


def dataset(data: str, doom: str = "") -> ShareDataset:
    recipe = simclr(accumulate=2)
    training = recipe.training
    portion = Portion(
        seed=0, epoch=0, global_batch=training.batch, group=training.group, accumulate=training.accumulate
    )
    plan = Trainer(recipe, World(0, 1, CPU)).objective.plan
    made = (Doomed if doom else ShareDataset)(Reader(data), plan, portion, None, 2)
    if doom:
        made.kind = doom  # type: ignore[attr-defined]
    return made


def workers() -> list[int]:
    """The loader workers of this process: grandchildren, by way of the process that they are copies of."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and parent(parent(int(entry.name))) == os.getpid():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    found = [pid for pid in found if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return sorted(set(found) - _others)


_others: set[int] = set()
"""Grandchildren of before a test: servers that other tests of this process share may have children too."""


@pytest.fixture(autouse=True)
def others() -> Iterator[None]:
    _others.clear()
    _others.update(workers())
    yield
    _others.clear()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS, signal.SIGSTOP])
def test_batches_of_a_lost_worker_are_made_again(
    data: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(crew, "_STILL", 5)
    made = dataset(data)
    whole = list(load(replace(LOADER, workers=0), made, CPU))
    batches = load(LOADER, made, CPU)
    # Inside a global batch of two micro-batches, while most are not made yet.
    found = [next(batches) for _ in range(3)]
    harmed = workers()
    assert len(harmed) == 2
    for pid in harmed:
        os.kill(pid, number)
    found += batches
    assert len(found) == len(whole) and all(equal(a, b) for a, b in zip(found, whole, strict=True))
    assert [batch.counters.samples for batch in found] == [batch.counters.samples for batch in whole]
    assert "a loader worker is lost, its batches are made again" in caplog.text
    assert not workers()


def test_over_an_epochs_end_the_rest_is_the_same(data: str) -> None:
    made = dataset(data)
    whole = list(load(replace(LOADER, workers=0), made, CPU))
    for taken in (0, 1, 9, 10, 11, 19):
        rest, leave_out = made.after(taken)
        found = list(load(replace(LOADER, workers=0), rest, CPU))[leave_out:]
        assert len(found) == len(whole) - taken
        assert all(equal(a, b) for a, b in zip(found, whole[taken:], strict=True))


@pytest.mark.parametrize(
    ("doom", "words"),
    [
        ("SIGKILL", r"failed 3 times in a row .* process \d+ was killed by SIGKILL, .* memory .* --loader\.workers 0"),
        ("SIGSEGV", r"process \d+ was killed by SIGSEGV\. Its own output says more"),
        ("full", "/cache/shard: the disk is full. Free some space"),
        ("files", "too many open files. Raise the limit: ulimit -n 65536"),
        ("memory", "The memory of a loader worker ran out"),
    ],
)
def test_a_cause_that_stays_is_reported_in_words(data: str, doom: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        list(load(LOADER, dataset(data, doom), CPU))
    assert not workers()


def test_a_mistake_in_the_code_arrives_although_it_cannot_be_pickled(data: str) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*in _meet.*Local"):
        list(load(LOADER, dataset(data, "code"), CPU))


def test_workers_that_make_nothing_are_ended(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_LONGEST", 0.5)
    monkeypatch.setattr(crew, "_is_stopped", lambda pid: False)
    with pytest.raises(UserError, match=r"they made no batch for 0 s|they made no batch for 1 s"):
        list(load(LOADER, dataset(data, "SIGSTOP"), CPU))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"/dev/shm, where processes keep their locks, cannot be written \(No space left"),
        (errno.EROFS, r"cannot be written \(Read-only file system\)\. Free some of it, or mount .*--shm-size"),
        (errno.ENOSYS, "cannot be written"),
        (errno.EMFILE, "too many open files. Raise the limit: ulimit -n 65536; or pass --loader.workers 0"),
    ],
)
def test_workers_that_cannot_be_had_are_refused(monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    class Context:
        def Lock(self) -> None:
            raise OSError(number, os.strerror(number))

    check_crew(2)
    monkeypatch.setattr(crew, "get_context", lambda kind: Context())
    check_crew(0)
    with pytest.raises(UserError, match=f"Loader workers cannot be started: .*{words}"):
        check_crew(2)


# Parcels


def content() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "pixels": torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=generator),
        "rows": torch.randn(4, 9, generator=generator),
        "transposed": torch.randn(4, 9, generator=generator).T,
        "empty": torch.empty(0, 3),
        "number": torch.tensor(3),
        "words": ["one", 2],
    }


def sent(parcel: Parcel) -> Parcel:
    """The part of a parcel that arrives."""
    made = Parcel.__new__(Parcel)
    made.__setstate__(parcel.__getstate__())
    return made


@pytest.mark.parametrize("memory", [True, False])
def test_a_parcel_holds_what_went_in(monkeypatch: pytest.MonkeyPatch, memory: bool) -> None:
    if not memory:
        monkeypatch.delattr(os, "memfd_create")
    before, named = content(), os.listdir("/dev/shm")
    parcel = Parcel(before)
    assert (parcel._bytes is None) == memory
    after = sent(parcel).open()
    assert after.keys() == before.keys() and after["words"] == before["words"]
    for name, tensor in before.items():
        if isinstance(tensor, torch.Tensor):
            assert torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype
    after["rows"] += 1  # the memory is its own
    assert not torch.equal(after["rows"], before["rows"])
    assert np.asarray(after["rows"]).ctypes.data % (64 if memory else 8) == 0
    assert os.listdir("/dev/shm") == named


def test_memory_of_a_parcel_is_given_back() -> None:
    def mapped() -> int:
        return sum("memfd:batch" in line for line in Path("/proc/self/maps").read_text().splitlines())

    gc.collect()
    before = mapped()  # earlier tests of this process may have left some
    opened = [sent(Parcel(content())).open() for _ in range(3)]
    assert mapped() == before + 3
    one = opened[0]["rows"]
    del opened
    assert mapped() == before + 1 and one.sum() == content()["rows"].sum()


def test_a_parcel_that_cannot_be_taken_over_says_so_when_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    parcel = Parcel(content())

    def full(*words: Any, **others: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(parcel._shared, "detach", full)
    arrived = sent(parcel)
    with pytest.raises(OSError, match="Too many open files"):
        arrived.open()


class Pinnable:
    def __init__(self) -> None:
        self.rows, self.pinned = torch.arange(3), False

    def pin_memory(self) -> "Pinnable":
        self.pinned = True
        return self


def test_for_a_gpu_the_content_is_pinned() -> None:
    pinned = sent(Parcel(Pinnable())).pin_memory()
    assert isinstance(pinned, Pinnable) and pinned.pinned and pinned.rows.tolist() == [0, 1, 2]
    assert Refusal("no").pin_memory() == Refusal("no") and Crash("text").pin_memory() == Crash("text")
