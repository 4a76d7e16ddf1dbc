"""Spherical k-means over rows that all ranks hold; each rank works on a part of them.

Dhillon & Modha, "Concept decompositions for large sparse text data using clustering" (Machine Learning 2001), as
DeepCluster-v2 runs it (Caron et al. 2020, arXiv 2006.09882, appendix). The result does not depend on the number of
ranks: rows are processed in the same chunks by any rank, and sums are of integers, for which the order does not matter.

Shape legend: N rows, C rows of a chunk, K clusters, D width.
"""

import torch
from torch import Tensor

from hardviews.collectives import rank, sum_over_ranks, world_size
from hardviews.views.random import Purpose, words

ABSENT = -100
_CHUNK = 4096  # number of rows whose scores are in memory at once: 50 MB for 3000 clusters


@torch.no_grad()
def spherical_kmeans(
    rows_ND: Tensor, present_N: Tensor, start_KD: Tensor, iterations: int, chunk: int = _CHUNK
) -> tuple[Tensor, Tensor]:
    """Cluster rows of unit length by their cosine.

    rows_ND and present_N (which rows count) must be equal on all ranks. Each iteration assigns every row to its nearest
    centroid and moves every centroid into the direction of its rows' sum; a centroid without rows stays.

    Returns:
        The centroids (K, D) and each row's cluster (N,), -100 for rows that do not count.
    """
    # Large enough that rounding is below float32's, small enough that N rows do not overflow.
    scale = 2.0 ** (61 - len(rows_ND).bit_length())
    centroids_KD = start_KD.clone()
    with torch.autocast(rows_ND.device.type, enabled=False):
        for _ in range(iterations):
            # One more place, for the rows that do not count.
            sums = torch.zeros(len(centroids_KD) + 1, rows_ND.shape[1], dtype=torch.int64, device=rows_ND.device)
            for part in _own_chunks(len(rows_ND), chunk):
                nearest_C = _nearest(rows_ND[part], centroids_KD).where(present_N[part], len(centroids_KD))
                sums.index_add_(0, nearest_C, (rows_ND[part].double() * scale).round().to(torch.int64))
            sums_KD = sum_over_ranks(sums)[:-1].double()
            lengths_K1 = sums_KD.norm(dim=1, keepdim=True)
            moved_KD = (sums_KD / lengths_K1).to(centroids_KD)
            centroids_KD = torch.where(lengths_K1 > 0, moved_KD, centroids_KD)
        nearest_N = torch.zeros(len(rows_ND), dtype=torch.int64, device=rows_ND.device)
        for part in _own_chunks(len(rows_ND), chunk):
            nearest_N[part] = _nearest(rows_ND[part], centroids_KD)
    return centroids_KD, sum_over_ranks(nearest_N).where(present_N, ABSENT)


def draw_rows(seed: int, epoch: int, stream: int, present_N: Tensor, count: int) -> Tensor:
    """Draw different rows (count,) among the present ones, the same on all ranks."""
    place_N = torch.arange(len(present_N), device=present_N.device)
    drawn_N = words(seed, Purpose.CLUSTER, epoch, place_N, stream, 1)[:, 0]
    return drawn_N.where(present_N, 2**32).argsort(stable=True)[:count]


def _nearest(rows_CD: Tensor, centroids_KD: Tensor) -> Tensor:
    return (rows_CD @ centroids_KD.T).argmax(1)


def _own_chunks(rows: int, chunk: int) -> list[slice]:
    """Return this rank's chunks; their boundaries do not depend on the number of ranks."""
    return [slice(first, first + chunk) for first in range(rank() * chunk, rows, world_size() * chunk)]
