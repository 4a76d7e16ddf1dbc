"""Codes use every prototype equally and equal a naive loop, at scores that overflow it too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss.swav_loss import sinkhorn as lightly_sinkhorn
from torch import Tensor

from hardviews.methods.sinkhorn import sinkhorn

sizes = {"rows": st.integers(1, 30), "prototypes": st.integers(1, 20), "seed": st.integers(0, 2**31)}
many = settings(deadline=None, max_examples=40)


def cosines(rows: int, prototypes: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, prototypes, generator=generator, dtype=torch.float64) * 2 - 1


def naive(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    codes = [[float((s / epsilon).exp()) for s in row] for row in scores]
    for _ in range(iterations):
        for k in range(len(codes[0])):
            total = sum(row[k] for row in codes)
            for row in codes:
                row[k] /= total
        for row in codes:
            total = sum(row)
            row[:] = [value / total for value in row]
    return torch.tensor(codes, dtype=torch.float64)


@many
@given(**sizes, epsilon=st.sampled_from([0.03, 0.05, 0.5]), iterations=st.integers(1, 5))
def test_equals_a_naive_loop(rows: int, prototypes: int, seed: int, epsilon: float, iterations: int) -> None:
    scores = cosines(rows, prototypes, seed)
    codes = sinkhorn(scores, epsilon, iterations)
    torch.testing.assert_close(codes, naive(scores, epsilon, iterations), rtol=1e-9, atol=1e-12)
    single = sinkhorn(scores.float(), epsilon, iterations)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), codes, rtol=1e-4, atol=1e-6)


@many
@given(**sizes)
def test_marginals(rows: int, prototypes: int, seed: int) -> None:
    codes = sinkhorn(cosines(rows, prototypes, seed), 0.5, 200)
    torch.testing.assert_close(codes.sum(1), torch.ones(rows, dtype=torch.float64))
    share = torch.full((prototypes,), rows / prototypes, dtype=torch.float64)
    torch.testing.assert_close(codes.sum(0), share, rtol=1e-6, atol=0)
    assert codes.min() >= 0


@many
@given(**sizes, epsilon=st.sampled_from([0.03, 0.05]))
def test_equals_lightlys(rows: int, prototypes: int, seed: int, epsilon: float) -> None:
    scores = cosines(rows, prototypes, seed)
    torch.testing.assert_close(sinkhorn(scores, epsilon, 3), lightly_sinkhorn(scores, 3, epsilon))


@many
@given(**sizes, absent=st.integers(0, 10))
def test_absent_rows_take_no_part(rows: int, prototypes: int, seed: int, absent: int) -> None:
    scores = cosines(rows + absent, prototypes, seed)
    codes = sinkhorn(scores, 0.05, 3, torch.arange(rows + absent) < rows)
    torch.testing.assert_close(codes[:rows], sinkhorn(scores[:rows], 0.05, 3))
    assert codes.isfinite().all()


@many
@given(**sizes, epsilon=st.sampled_from([1e-4, 0.01]), scale=st.sampled_from([1.0, 1e3]))
def test_neither_overflows_nor_underflows(rows: int, prototypes: int, seed: int, epsilon: float, scale: float) -> None:
    codes = sinkhorn((cosines(rows, prototypes, seed) * scale).float(), epsilon, 3)
    assert codes.isfinite().all()
    # At logits of 10^7 single precision leaves units: the sum is no longer that of a distribution, but it is finite.
    if scale == 1:
        torch.testing.assert_close(codes.sum(1), torch.ones(rows), rtol=2e-2, atol=0)


def test_shuffled_rows_are_shuffled_codes_and_a_constant_changes_nothing() -> None:
    scores = cosines(12, 5, 0)
    codes = sinkhorn(scores, 0.05, 3)
    order = torch.randperm(12)
    torch.testing.assert_close(sinkhorn(scores[order], 0.05, 3), codes[order])
    torch.testing.assert_close(sinkhorn(scores + 3, 0.05, 3), codes)


def test_half_precision_is_widened() -> None:
    assert sinkhorn(cosines(4, 3, 0).bfloat16(), 0.05, 3).dtype == torch.float32


def test_takes_no_gradient() -> None:
    assert not sinkhorn(cosines(4, 3, 0).requires_grad_(), 0.05, 3).requires_grad


@pytest.mark.parametrize("iterations", [1, 3])
def test_a_fault_is_detected(iterations: int) -> None:
    """Rows before columns is another algorithm."""
    scores = cosines(7, 4, 1)
    transposed = sinkhorn(scores.T, 0.05, iterations).T
    assert not torch.allclose(transposed, naive(scores, 0.05, iterations), atol=1e-3)
