"""The reader inside a real DataLoader: order over workers, and memory that does not grow."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hardviews.data.index import Index
from hardviews.data.reader import Reader
from hardviews.data.shares import Portion
from tests.data.helpers import write_dataset

BATCH = 64


class Shares(torch.utils.data.IterableDataset):
    """Indices, positions and the worker's resident bytes, batch by batch, over some epochs."""

    def __init__(self, index: Index, consumed: int, epochs: int = 1) -> None:
        self.reader, self.consumed, self.epochs = Reader(index), consumed, epochs

    def __iter__(self) -> Iterator[tuple[list[int], list[int], int]]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        for epoch in range(self.epochs):
            portion = Portion(seed=3, epoch=epoch, global_batch=BATCH, consumed=self.consumed)
            for share in self.reader.iterate(portion, worker=worker, workers=workers):
                yield [s.index for s in share.samples], [s.position for s in share.samples], resident_bytes()


def resident_bytes() -> int:
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def load(index: Index, consumed: int, workers: int, method: str | None) -> list[tuple[int, int]]:
    loader = torch.utils.data.DataLoader(
        Shares(index, consumed), batch_size=None, num_workers=workers, multiprocessing_context=method
    )
    return [pair for indices, positions, _ in loader for pair in zip(positions, indices, strict=True)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_loader_resumes_exactly_with_other_workers(tmp_path: Path) -> None:
    index = write_dataset(str(tmp_path), [300] * 5)
    order = Reader(index).order(3, 0, BATCH)
    whole = load(index, 0, 0, None)
    assert whole == list(enumerate(order.indices(0, 1500 // BATCH * BATCH).tolist()))
    for workers, method, stop in ((1, "fork", 2), (3, "fork", 7), (1, "spawn", 11)):
        assert whole[: stop * BATCH] + load(index, stop * BATCH, workers, method) == whole


@pytest.mark.parametrize("workers", [2])
def test_a_workers_memory_does_not_grow(tmp_path: Path, workers: int) -> None:
    # 80 MB of samples, each read twice: a worker that kept its samples would grow by 80 MB.
    index = write_dataset(str(tmp_path), [500] * 8, padding=20_000)
    loader = torch.utils.data.DataLoader(Shares(index, 0, epochs=2), batch_size=None, num_workers=workers)
    resident = [memory for _, _, memory in loader]
    assert len(resident) == 2 * (4000 // BATCH)
    warm = max(resident[: len(resident) // 8])
    assert max(resident[-len(resident) // 8 :]) - warm < 8e6
