"""Several views through one network, one after the other or as one batch: what BatchNorm takes its statistics over."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key")


def each(
    network: Callable[[Tensor], Tensor], inputs: Iterable[tuple[Key, Tensor]], together: bool = False
) -> dict[Key, Tensor]:
    """Return the network's output for every input, by key.

    With `together`, inputs of one shape are forwarded as one batch; those of a generator are then all held at once.
    """
    if not together:
        return {key: network(tensor) for key, tensor in inputs}
    by_shape: dict[torch.Size, dict[Key, Tensor]] = {}
    for key, tensor in inputs:
        by_shape.setdefault(tensor.shape[1:], {})[key] = tensor
    outputs: dict[Key, Tensor] = {}
    for alike in by_shape.values():
        joined = network(torch.cat(list(alike.values())))
        outputs.update(zip(alike, joined.split([len(tensor) for tensor in alike.values()]), strict=True))
    return outputs
