"""A backward pass before the step's own: its gradients are kept and passed on, never computed twice.

An attack that reads the pixel gradient of the clean loss needs that loss's backward pass during the forward pass of the
step. `early_backward` makes it by `torch.autograd.grad`, which calls no hook of DistributedDataParallel. Later
`EarlyBackward.loss` puts the loss into the graph of the step, with the gradients in place of the network. So each
parameter gets one gradient a step. All-reduce, accumulation and autocast work in the same way as for any other loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class EarlyBackward:
    """A loss (a scalar, without graph), and its gradients with respect to some parameters and to some inputs."""

    value: Tensor
    parameters: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]

    def loss(self) -> Tensor:
        """Return the loss as a node of a graph whose backward pass gives the kept gradients to the parameters.

        A backward pass begins with the youngest nodes. If this one is made last, DistributedDataParallel can send
        gradients while the rest of the backward pass is computed.
        """
        result: Tensor = _Kept.apply(self.value, self.gradients, *self.parameters)
        return result


def early_backward(loss: Tensor, parameters: Sequence[Tensor], inputs: Sequence[Tensor]) -> EarlyBackward:
    """Make the backward pass of a loss now; the graph stays, for other losses that read parts of it."""
    # Without autocast, as outside of the forward pass: it would round products of the backward pass too.
    with torch.autocast(loss.device.type, enabled=False):
        found = torch.autograd.grad(loss, [*inputs, *parameters], retain_graph=True, allow_unused=True)
    of_inputs = [torch.zeros_like(i) if g is None else g for i, g in zip(inputs, found, strict=False)]
    reached = [(p, g) for p, g in zip(parameters, found[len(inputs) :], strict=True) if g is not None]
    return EarlyBackward(loss.detach(), tuple(p for p, _ in reached), tuple(g for _, g in reached), tuple(of_inputs))


class _Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient * grads[0] for gradient in ctx.gradients)
