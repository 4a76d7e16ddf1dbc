"""Stochastic layers, switched off where noise would only blur a gradient."""

from collections.abc import Iterator
from contextlib import contextmanager

from timm.layers.drop import DropPath
from torch import nn


@contextmanager
def without_noise(module: nn.Module) -> Iterator[None]:
    """Inside, dropout and stochastic depth pass everything through; BatchNorm stays in its mode."""
    noisy = [m for m in module.modules() if isinstance(m, nn.modules.dropout._DropoutNd | DropPath) and m.training]
    for layer in noisy:
        layer.training = False
    try:
        yield
    finally:
        for layer in noisy:
            layer.training = True
