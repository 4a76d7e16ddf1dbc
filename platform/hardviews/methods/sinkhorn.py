"""Sinkhorn-Knopp: soft assignments of a batch to prototypes that use all prototypes equally.

Cuturi, "Sinkhorn Distances" (NeurIPS 2013), algorithm 1; as the codes of SwAV, Caron et al. (NeurIPS 2020), equations
3 to 5.

Shape legend: N rows, K prototypes.
"""

import torch
from torch import Tensor

from hardviews.full_precision import full_precision


@torch.no_grad()
def sinkhorn(scores_NK: Tensor, epsilon: float, iterations: int, present_N: Tensor | None = None) -> Tensor:
    """Return codes (N, K): each row sums to 1, and in the limit of many iterations each column to N / K.

    Rows with false `present_N` get codes, but have no influence on other rows. The naive loop, which overflows if
    scores / epsilon exceed 88:

        codes = (scores / epsilon).exp()
        for _ in range(iterations):
            codes /= codes.sum(0)
            codes /= codes.sum(1)

    Here its logarithm is kept, as one term for the columns and one for the rows; logsumexp subtracts the largest value.
    """
    logits_NK = full_precision(scores_NK) / epsilon
    row_N1 = logits_NK.new_zeros(len(logits_NK), 1)
    column_1K = logits_NK.new_zeros(1, logits_NK.shape[1])
    for _ in range(iterations):
        counted_N1 = row_N1 if present_N is None else row_N1.masked_fill(~present_N[:, None], torch.inf)
        column_1K = (logits_NK - counted_N1).logsumexp(0, keepdim=True)
        row_N1 = (logits_NK - column_1K).logsumexp(1, keepdim=True)
    return (logits_NK - column_1K - row_N1).exp()
