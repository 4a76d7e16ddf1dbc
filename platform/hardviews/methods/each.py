"""Several views through one network, one after the other or as one batch: what BatchNorm takes its statistics over."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from hardviews.batch import View
from hardviews.models.batchnorm import moving_once

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


def each_view(module: nn.Module, embed: Callable[[Tensor], Tensor], views: Iterable[View]) -> dict[View, Tensor]:
    """Return the embedding of every view, made one after the other; those of one pool move BatchNorm once.

    So running statistics weigh the pools as the published multi-crop code does, which makes one batch of all views of a
    size: else many small views would leave full-size ones, which the encoder is used on, little of them.
    """
    views = list(dict.fromkeys(views))
    alike = Counter(view.slot.pool for view in views)
    embedded = {}
    for view in views:
        with moving_once(module, alike[view.slot.pool]):
            embedded[view] = embed(view.pixels())
    return embedded
