"""The keys of past batches, which are the negatives of the next batches.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning" (CVPR 2020), section 3.2.

Shape legend: N rows, K keys, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class KeyQueue(nn.Module):
    """A ring of the latest K keys, the same on all ranks; all of it is state that a checkpoint holds.

    The size need not be a multiple of the batch, and a batch may be larger than the ring.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int) -> None:
        """Fill the ring with random unit vectors."""
        super().__init__()
        self.register_buffer("keys", normalize(torch.randn(size, width), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys_ND: Tensor) -> None:
        """Overwrite the oldest keys by the keys of all ranks, in order; if there are too many, the last ones stay."""
        size = len(self.keys)
        # The value of the pointer is never read here: that would wait for the device.
        places_N = (self.pointer + torch.arange(len(keys_ND), device=self.keys.device)) % size
        # Each place must occur only once, otherwise its key is undefined.
        self.keys[places_N[-size:]] = keys_ND[-size:].to(self.keys)
        self.pointer.add_(len(keys_ND)).remainder_(size)
