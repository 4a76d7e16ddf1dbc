"""Stochastic layers, switched off if noise would only blur a gradient."""

from collections.abc import Iterator
from contextlib import contextmanager

from timm.layers.drop import DropPath
from torch import nn


def noisy_layers(module: nn.Module) -> list[nn.Module]:
    """Return the dropout and stochastic depth layers inside a module."""
    return [m for m in module.modules() if isinstance(m, nn.modules.dropout._DropoutNd | DropPath)]


def is_noisy(module: nn.Module) -> bool:
    """Return whether a dropout or stochastic depth layer inside a module draws numbers in its present mode."""
    return any(layer.training and _rate(layer) > 0 for layer in noisy_layers(module))


def _rate(layer: nn.Module) -> float:
    return float(layer.drop_prob if isinstance(layer, DropPath) else layer.p)  # type: ignore[arg-type]


@contextmanager
def without_noise(module: nn.Module) -> Iterator[None]:
    """Switch off dropout and stochastic depth during the block; BatchNorm stays in its mode."""
    noisy = [layer for layer in noisy_layers(module) if layer.training]
    for layer in noisy:
        layer.training = False
    try:
        yield
    finally:
        for layer in noisy:
            layer.training = True
