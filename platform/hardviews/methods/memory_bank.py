"""The memory bank: the last embeddings of every sample of the data set, equal on all ranks.

It is keyed by the sample's row in the data set, and every rank holds all of it. So a checkpoint holds every row for any
number of ranks.

Shape legend: B samples of this rank, G samples of all ranks, V banks (one for each view), N rows of the data set,
D width.
"""

import torch
from torch import Tensor, nn

from hardviews.batch import Samples
from hardviews.collectives import gather_rows


class MemoryBank(nn.Module):
    """Some embeddings of each sample (V, N, D), and a mask (N,) of the samples that have them."""

    rows: Tensor
    seen: Tensor

    def __init__(self, banks: int, width: int) -> None:
        """Start without rows: their number is known once the data set is."""
        super().__init__()
        self.register_buffer("rows", torch.zeros(banks, 0, width))
        self.register_buffer("seen", torch.zeros(0, dtype=torch.bool))

    def allocate(self, samples: int) -> None:
        """Make room for `samples` samples, none of them seen."""
        banks, _, width = self.rows.shape
        self.rows = self.rows.new_zeros(banks, samples, width)
        self.seen = self.seen.new_zeros(samples)

    def unwritten(self) -> Tensor:
        """Return the state (N,) at the start of a pass of several batches: no row is written yet."""
        return self.seen.new_full((len(self.seen),), -1, dtype=torch.int64)

    @torch.no_grad()
    def write(self, embeddings_BVD: Tensor, samples: Samples, written_N: Tensor | None = None) -> None:
        """Replace the rows of these samples on all ranks; every rank calls this with its share of a batch.

        A sample that replaces a corrupt one occurs twice in an epoch: the later place in the epoch's order counts.
        `written_N` (N,) holds the places that several batches have written, in any order of batches.
        """
        written_N = self.unwritten() if written_N is None else written_N
        embeddings_GVD, _ = gather_rows(embeddings_BVD.detach())
        index_G, _ = gather_rows(samples.index.to(self.seen.device, non_blocking=True))
        position_G, _ = gather_rows(samples.position.to(self.seen.device, non_blocking=True))
        order_G = position_G.argsort()
        embeddings_GVD, index_G, position_G = embeddings_GVD[order_G], index_G[order_G], position_G[order_G]
        # All writes of a row have the same content: on a GPU, the order of writes is random.
        number_G = torch.arange(len(index_G), device=index_G.device)
        last_G = number_G.new_zeros(len(self.seen)).scatter_reduce_(0, index_G, number_G, "amax")[index_G]
        newer_G = position_G[last_G] > written_N[index_G]
        found_VGD = embeddings_GVD[last_G].transpose(0, 1).to(self.rows)
        self.rows[:, index_G] = torch.where(newer_G[:, None], found_VGD, self.rows[:, index_G])
        written_N[index_G] = torch.where(newer_G, position_G[last_G], written_N[index_G])
        self.seen[index_G] = True
