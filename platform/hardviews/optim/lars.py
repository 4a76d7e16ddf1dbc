"""LARS as SimCLR and BYOL trained with it: each weight's step is in proportion to its length.

You et al., "Large Batch Training of Convolutional Networks" (2017), algorithm 1. Both publications leave biases and
norms out of the adaptation. Both adapt to the gradient *with* its weight decay, eta |w| / |g + d w|. timm's `lars` has
eta |w| / (|g| + d |w|), as in the paper, SwAV and DeepCluster-v2. The two differ in their momentum: SimCLR's sums
steps, so that a changed learning rate reaches the old ones late; BYOL's sums gradients.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lars(Optimizer):
    """SGD with momentum and a learning rate for each weight; groups with `adapts` false take plain steps.

    lr, momentum, weight_decay: as in SGD. trust: eta, the length of a step as a share of the weight's, at a learning
    rate of 1. sums_steps: whether the momentum sums steps (SimCLR) or gradients (BYOL).
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        sums_steps: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "sums_steps": sums_steps,
            "adapts": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every weight that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                change = weight.grad.add(weight, alpha=group["weight_decay"])
                if group["adapts"]:
                    change = change * _trust(weight, change, group["trust"])
                before, after = (group["lr"], 1.0) if group["sums_steps"] else (1.0, group["lr"])
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                moving = state["momentum_buffer"].mul_(group["momentum"]).add_(change, alpha=before)
                weight.add_(moving, alpha=-after)
        return loss


def _trust(weight: Tensor, change: Tensor, eta: float) -> Tensor:
    """Return eta |w| / |change|, and 1 if either is zero."""
    length, force = weight.norm(), change.norm()
    # Not by a question to the device: the answer would be waited for.
    return torch.where((length > 0) & (force > 0), eta * length / force, torch.ones_like(length))
