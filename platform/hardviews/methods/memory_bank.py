"""The memory bank: the last embeddings of every sample of the data set, equal on all ranks.

Keyed by the sample's row in the data set and held whole by every rank, so that a checkpoint holds every row whatever
the number of ranks.

Shape legend: B samples of this rank, G samples of all ranks, V banks (one for each view), N rows of the data set,
D width.
"""

import torch
from torch import Tensor, nn

from hardviews.collectives import gather_rows


class MemoryBank(nn.Module):
    """Some embeddings of each sample (V, N, D), and which samples have any (N,)."""

    rows: Tensor
    seen: Tensor

    def __init__(self, banks: int, width: int) -> None:
        """Start without rows: how many there are is known once the data set is."""
        super().__init__()
        self.register_buffer("rows", torch.zeros(banks, 0, width))
        self.register_buffer("seen", torch.zeros(0, dtype=torch.bool))

    def allocate(self, samples: int) -> None:
        """Make room for so many samples, none of them seen."""
        banks, _, width = self.rows.shape
        self.rows = self.rows.new_zeros(banks, samples, width)
        self.seen = self.seen.new_zeros(samples)

    @torch.no_grad()
    def write(self, embeddings_BVD: Tensor, index_B: Tensor) -> None:
        """Replace the rows of these samples on all ranks; every rank calls this with its share of a batch."""
        embeddings_GVD, _ = gather_rows(embeddings_BVD.detach())
        index_G, _ = gather_rows(index_B.to(self.seen.device))
        # A sample that stands in for a corrupt one may come twice. The later one counts for both: on a GPU, the order
        # of two different writes to one place would be left to chance.
        number_G = torch.arange(len(index_G), device=index_G.device)
        latest_N = number_G.new_zeros(len(self.seen)).scatter_reduce_(0, index_G, number_G, "amax")
        self.rows[:, index_G] = embeddings_GVD[latest_N[index_G]].transpose(0, 1).to(self.rows)
        self.seen[index_G] = True
