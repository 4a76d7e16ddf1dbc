"""MoCo's queue: keys of past batches, the negatives of the next ones.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning" (CVPR 2020), section 3.2 and algorithm 1.

Shape legend: N rows, K keys, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class KeyQueue(nn.Module):
    """The latest K keys, equal on all ranks: a ring in which the newest overwrite the oldest."""

    keys: Tensor
    next: Tensor

    def __init__(self, size: int, width: int) -> None:
        """Start with random unit vectors, as published."""
        super().__init__()
        self.register_buffer("keys", normalize(torch.randn(size, width), dim=1))
        self.register_buffer("next", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys_ND: Tensor) -> None:
        """Write the keys of all ranks where the oldest are; of more than the queue holds the last ones stay.

        The size need be no multiple of the batch.
        """
        size = len(self.keys)
        skipped = max(0, len(keys_ND) - size)
        places_N = (self.next + torch.arange(skipped, len(keys_ND), device=self.keys.device)) % size
        self.keys.index_copy_(0, places_N, keys_ND[skipped:].to(self.keys))
        self.next.copy_((self.next + len(keys_ND)) % size)
