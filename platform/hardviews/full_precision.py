"""Losses and statistics are computed in float32 at least, whatever the network ran in."""

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Return the tensor as float32, or as float64 where it is that already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
