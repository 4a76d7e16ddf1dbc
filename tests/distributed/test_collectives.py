"""Collectives have the values and gradients of one process."""

import pytest
import torch

from tests.distributed import collectives
from tests.distributed.pair import Pair

SHARES = [(3, 3), (1, 5), (4, 2)]


@pytest.mark.parametrize("shares", SHARES, ids=str)
def test_gather_has_the_gradient_of_one_process(pair: Pair, shares: tuple[int, int]) -> None:
    rows = torch.randn(6, 4, dtype=torch.float64)
    both = pair.run(collectives.similarities, rows, shares)
    scores, grad, first = collectives.similarities(rows, shares)
    torch.testing.assert_close(torch.cat([scores_BG for scores_BG, _, _ in both]), scores)
    torch.testing.assert_close(torch.cat([grad_BD for _, grad_BD, _ in both]), grad)
    assert [first for _, _, first in both] == [0, shares[0]]
    assert first == 0


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(6,), (6, 2, 3)], ids=str)
def test_gather_keeps_bits(pair: Pair, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    rows = (torch.randn(shape) * 100).to(dtype)
    for got in pair.run(collectives.gathered, rows, (5, 1)):
        assert got.dtype == dtype
        assert torch.equal(got, rows)


def test_sum_leaves_its_argument(pair: Pair) -> None:
    assert [float(total) for total in pair.run(collectives.summed, [1.5, 2.0])] == [3.5, 3.5]
