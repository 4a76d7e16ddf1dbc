"""Projection and prediction heads."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(widths: Sequence[int], *, last_norm: bool, last_affine: bool = True, last_bias: bool = True) -> nn.Sequential:
    """Build linear layers with BatchNorm and ReLU between them.

    `widths` are the widths of the input, the hidden layers and the output. The last layer has no ReLU, and a BatchNorm
    only with `last_norm`; `last_affine` gives it scale and shift. Layers before a BatchNorm have no bias; `last_bias`
    gives the last layer one if no BatchNorm follows.
    """
    layers: list[nn.Module] = []
    for i, (inside, outside) in enumerate(pairwise(widths)):
        last = i == len(widths) - 2
        norm = last_norm or not last
        layers.append(nn.Linear(inside, outside, bias=not norm and (last_bias or not last)))
        if norm:
            layers.append(nn.BatchNorm1d(outside, affine=last_affine or not last))
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
