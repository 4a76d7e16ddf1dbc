"""Stochastic layers, switched off where noise would only blur a gradient."""

from collections.abc import Iterator
from contextlib import contextmanager

from timm.layers.drop import DropPath
from torch import nn


def noisy_layers(module: nn.Module) -> list[nn.Module]:
    """Return the dropout and stochastic depth layers inside a module."""
    return [m for m in module.modules() if isinstance(m, nn.modules.dropout._DropoutNd | DropPath)]


@contextmanager
def without_noise(module: nn.Module) -> Iterator[None]:
    """Inside, dropout and stochastic depth pass everything through; BatchNorm stays in its mode."""
    noisy = [layer for layer in noisy_layers(module) if layer.training]
    for layer in noisy:
        layer.training = False
    try:
        yield
    finally:
        for layer in noisy:
            layer.training = True
