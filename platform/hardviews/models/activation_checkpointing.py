"""Activation checkpointing: a block keeps only its input, and is computed again in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174). torch makes the second pass of a block
(`torch.utils.checkpoint`), and draws the same random numbers in it. By then the contexts of the first pass have ended:
an attack, for example, switches stochastic depth off only in its forward passes. So the modes of a block's layers are
stored in the first pass, and set again for the second one. Gradients are the same, bit for bit.

Blocks keep their parameters, their names and their hooks. A pass without gradient is computed as before.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hardviews.models.batchnorm import has_batchnorm
from hardviews.models.noise import is_noisy


class Recomputed:
    """The forward pass of a block whose activations are not kept."""

    def __init__(self, block: nn.Module) -> None:
        """Replace the forward pass of the block's class."""
        self.block = block
        self.compute: Callable[..., Tensor] = partial(type(block).forward, block)

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        """Return the block's output."""
        if not torch.is_grad_enabled():
            return self.compute(*inputs, **options)

        def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
            return nullcontext(), _Modes(self.block)

        output: Tensor = checkpoint(
            self.compute,
            *inputs,
            use_reentrant=False,
            context_fn=contexts,
            preserve_rng_state=is_noisy(self.block),
            **options,
        )
        return output


def checkpoint_activations(network: nn.Module) -> None:
    """Let every block of a vision transformer keep only its input; see `not_checkpointed` for other networks."""
    for block in blocks(network):
        block.forward = Recomputed(block)


def not_checkpointed(network: nn.Module) -> str | None:
    """Return why the blocks of a network cannot be computed again in the backward pass; None if they can."""
    found = blocks(network)
    if not found:
        return f"the backbone, a {type(network).__name__}, is not a vision transformer of timm (ViT, DeiT or EVA)"
    if any(has_batchnorm(block) for block in found):
        return "blocks of the backbone have BatchNorm, whose running statistics would move twice in a step"
    return None


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a vision transformer, the first one first; none of another network."""
    return list(network.blocks) if isinstance(network, VisionTransformer | Eva) else []


class _Modes:
    """A context that restores the present modes of layers, training (true) or evaluation.

    It can be entered again: a retained graph has several backward passes.
    """

    def __init__(self, block: nn.Module) -> None:
        self._then = [(layer, layer.training) for layer in block.modules()]
        self._now: list[tuple[nn.Module, bool]] = []

    def __enter__(self) -> None:
        self._now = [(layer, layer.training) for layer, _ in self._then]
        _set(self._then)

    def __exit__(self, *error: object) -> None:
        _set(self._now)


def _set(modes: Sequence[tuple[nn.Module, bool]]) -> None:
    for layer, training in modes:
        layer.training = training
