"""k-means equals a naive one in double precision, and any number of ranks comes to the same, bit for bit."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from hardviews.methods import kmeans
from hardviews.methods.kmeans import draw_rows, spherical_kmeans

seeds = st.integers(0, 2**31)


def problem(seed: int, rows: int, clusters: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Draw unit rows, which of them are present, and first centroids among these."""
    generator = torch.Generator().manual_seed(seed)
    rows_ND = normalize(torch.randn(rows, 5, generator=generator, dtype=torch.float64), dim=1).to(dtype)
    present_N = torch.rand(rows, generator=generator) < 0.8
    present_N[:clusters] = True
    return rows_ND, present_N, rows_ND[draw_rows(seed, 0, 0, present_N, clusters)]


def naive(rows_ND: Tensor, present_N: Tensor, start_KD: Tensor, iterations: int) -> tuple[Any, list[int]]:
    """Row by row and cluster by cluster."""
    rows, centroids = rows_ND.double().numpy(), start_KD.double().numpy().copy()
    present = present_N.tolist()

    def assign() -> list[int]:
        return [
            max(range(len(centroids)), key=lambda k: sum(r * c for r, c in zip(row, centroids[k], strict=True)))
            if there
            else -100
            for row, there in zip(rows, present, strict=True)
        ]

    for _ in range(iterations):
        labels = assign()
        for k in range(len(centroids)):
            members = [row for row, label in zip(rows, labels, strict=True) if label == k]
            if members:
                mean = np.mean(members, axis=0)
                centroids[k] = mean / np.sqrt((mean**2).sum())
    return centroids, assign()


@settings(deadline=None, max_examples=30)
@given(
    seed=seeds,
    rows=st.integers(8, 60),
    clusters=st.integers(2, 8),
    iterations=st.integers(0, 6),
    chunk=st.integers(1, 70),
)
def test_equals_a_naive_one(seed: int, rows: int, clusters: int, iterations: int, chunk: int) -> None:
    given_ = problem(seed, rows, clusters)
    centroids_KD, labels_N = spherical_kmeans(*given_, iterations, chunk)
    wanted_KD, wanted_N = naive(*given_, iterations)
    assert labels_N.tolist() == wanted_N
    np.testing.assert_allclose(centroids_KD.numpy(), wanted_KD, rtol=0, atol=1e-12)


class Ranks:
    """So many ranks as threads of one process, and their all-reduce."""

    def __init__(self, world: int) -> None:
        self.world, self.own = world, threading.local()
        self.barrier = threading.Barrier(world)
        self.parts: dict[int, Tensor] = {}

    def sum(self, values: Tensor) -> Tensor:
        self.parts[self.own.rank] = values
        self.barrier.wait(60)
        # Each rank adds in an order of its own, as an all-reduce may.
        order = sorted(self.parts, key=lambda rank: (rank - self.own.rank) % self.world)
        total = torch.stack([self.parts[rank] for rank in order]).sum(0)
        self.barrier.wait(60)
        return total

    def run(self, function: Callable[[], Any]) -> list[Any]:
        def on(rank: int) -> Any:
            self.own.rank = rank
            return function()

        with (
            patch.object(kmeans, "world_size", lambda: self.world),
            patch.object(kmeans, "rank", lambda: self.own.rank),
            patch.object(kmeans, "sum_over_ranks", self.sum),
            ThreadPoolExecutor(self.world) as pool,
        ):
            return list(pool.map(on, range(self.world)))


@settings(deadline=None, max_examples=25)
@given(
    seed=seeds, rows=st.integers(10, 80), clusters=st.integers(2, 8), chunk=st.integers(1, 30), world=st.integers(2, 5)
)
def test_any_number_of_ranks_comes_to_the_same(seed: int, rows: int, clusters: int, chunk: int, world: int) -> None:
    given_ = problem(seed, rows, clusters, torch.float32)
    alone = spherical_kmeans(*given_, 5, chunk)
    for centroids_KD, labels_N in Ranks(world).run(lambda: spherical_kmeans(*given_, 5, chunk)):
        assert torch.equal(centroids_KD, alone[0])
        assert torch.equal(labels_N, alone[1])


def test_ranks_whose_sums_are_not_added_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    given_ = problem(0, 40, 4)
    alone = spherical_kmeans(*given_, 5, 8)
    monkeypatch.setattr(Ranks, "sum", lambda self, values: values)
    found = Ranks(2).run(lambda: spherical_kmeans(*given_, 5, 8))
    assert not all(torch.equal(labels_N, alone[1]) for _, labels_N in found)


def test_a_cluster_without_rows_keeps_its_centroid() -> None:
    rows_ND = normalize(torch.tensor([[1.0, 0.1], [1.0, -0.2], [1.0, 0.3]]), dim=1)
    start_KD = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    centroids_KD, labels_N = spherical_kmeans(rows_ND, torch.ones(3, dtype=torch.bool), start_KD, 3)
    assert labels_N.tolist() == [0, 0, 0]
    assert torch.equal(centroids_KD[1], start_KD[1])
    torch.testing.assert_close(centroids_KD[0], normalize(rows_ND.sum(0), dim=0))


def test_absent_rows_move_nothing() -> None:
    rows_ND, present_N, start_KD = problem(3, 50, 5)
    wanted = spherical_kmeans(rows_ND[present_N], present_N[present_N], start_KD, 5)
    rows_ND[~present_N] = 7.0
    centroids_KD, labels_N = spherical_kmeans(rows_ND, present_N, start_KD, 5)
    torch.testing.assert_close(centroids_KD, wanted[0])
    assert torch.equal(labels_N[present_N], wanted[1])
    assert (labels_N[~present_N] == -100).all()


def test_many_rows_in_one_cluster_do_not_overflow() -> None:
    rows_ND = torch.tensor([[1.0, 0.0]]).repeat(5000, 1)
    everybody = torch.ones(5000, dtype=torch.bool)
    centroids_KD, _ = spherical_kmeans(rows_ND, everybody, torch.tensor([[0.6, 0.8], [-1.0, 0.0]]), 1)
    assert centroids_KD[0].tolist() == [1.0, 0.0]


@settings(deadline=None, max_examples=30)
@given(seed=seeds, epoch=st.integers(0, 1000), rows=st.integers(10, 200), count=st.integers(2, 8))
def test_first_centroids_are_different_present_rows(seed: int, epoch: int, rows: int, count: int) -> None:
    _, present_N, _ = problem(seed, rows, count)
    drawn = draw_rows(seed, epoch, 1, present_N, count)
    assert len(set(drawn.tolist())) == count
    assert present_N[drawn].all()
    # Rows that come after do not change which of these come first.
    more_N = torch.cat([present_N, torch.zeros(9, dtype=torch.bool)])
    assert torch.equal(drawn, draw_rows(seed, epoch, 1, more_N, count))


def test_draws_differ_by_seed_epoch_and_head_and_take_every_row() -> None:
    everybody = torch.ones(40, dtype=torch.bool)
    draws = {tuple(draw_rows(s, e, h, everybody, 6).tolist()) for s in range(5) for e in range(5) for h in range(5)}
    assert len(draws) == 125
    assert {row for drawn in draws for row in drawn} == set(range(40))
