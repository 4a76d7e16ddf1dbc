"""SwAV's queue: embeddings of past batches, which join small batches when they are assigned to prototypes.

Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (NeurIPS 2020), section 3.1,
"Working with small batches".

Shape legend: N rows, D width.
"""

import torch
from torch import Tensor, nn


class EmbeddingQueue(nn.Module):
    """The latest embeddings, newest first, equal on all ranks; not used until it was filled once."""

    rows: Tensor
    filled: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, width))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, rows_ND: Tensor) -> None:
        """Put the embeddings of all ranks in front; the oldest fall out."""
        self.rows.copy_(torch.cat([rows_ND.to(self.rows), self.rows])[: len(self.rows)])
        self.filled.add_(len(rows_ND)).clamp_(max=len(self.rows))

    def present(self) -> Tensor:
        """Return for each row whether it counts (N,): all or none; on the device, so that nothing waits for it."""
        return (self.filled >= len(self.rows)).expand(len(self.rows))
