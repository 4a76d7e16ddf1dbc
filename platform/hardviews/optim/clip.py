"""Gradients cut to a greatest length."""

from collections.abc import Iterable
from typing import Literal

from torch import nn
from torch.nn.utils import clip_grad_norm_

Per = Literal["all", "weight"]


def clip_gradients(parameters: Iterable[nn.Parameter], longest: float, per: Per) -> None:
    """Shorten gradients in place to a Euclidean length; parameters without a gradient count for nothing.

    `per`: `all` clips the length of all gradients together; `weight` clips each weight's gradient by itself, as in the
    official code of DINO and iBOT.
    """
    chosen = [parameter for parameter in parameters if parameter.grad is not None]
    for together in [chosen] if per == "all" else [[parameter] for parameter in chosen]:
        clip_grad_norm_(together, longest)
