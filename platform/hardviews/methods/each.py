"""Several views through one network, one after the other or as one batch: what BatchNorm takes its statistics over."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from hardviews.batch import View
from hardviews.models.batchnorm import moving_once, view_by_view

Key = TypeVar("Key")


def each(
    network: Callable[[Tensor], Tensor],
    inputs: Iterable[tuple[Key, Tensor]],
    together: bool = False,
    by_view: nn.Module | None = None,
) -> dict[Key, Tensor]:
    """Return the network's output for every input, by key.

    With `together`, inputs of one shape are forwarded as one batch; those of a generator are then all held at once.
    They are too with `by_view`, the module that holds the network's BatchNorm; it then normalises each input by itself.
    """
    if not together and by_view is None:
        return {key: network(tensor) for key, tensor in inputs}
    by_shape: dict[torch.Size, dict[Key, Tensor]] = {}
    for key, tensor in inputs:
        # Views of unequal numbers of rows cannot be told apart in one batch.
        by_shape.setdefault(tensor.shape[1:] if together else tensor.shape, {})[key] = tensor
    outputs: dict[Key, Tensor] = {}
    for alike in by_shape.values():
        with nullcontext() if together or by_view is None else view_by_view(by_view, len(alike)):
            joined = network(torch.cat(list(alike.values())))
        outputs.update(zip(alike, joined.split([len(tensor) for tensor in alike.values()]), strict=True))
    return outputs


def batches(views: Mapping[Key, View], join: bool) -> Iterator[tuple[list[Key], Tensor, Tensor | None]]:
    """Yield the keys of views that are one batch for a network, their pixels and their masks, view after view.

    Joined are views of one size, masked ones apart from others. Without `join` each view is a batch of its own.
    """
    if not join:
        yield from (([key], view.pixels(), view.mask) for key, view in views.items())
        return
    alike: dict[object, list[tuple[Key, Tensor, Tensor | None]]] = defaultdict(list)
    for key, view in views.items():
        pixels = view.pixels()
        alike[pixels.shape[1:], view.mask is None].append((key, pixels, view.mask))
    for found in alike.values():
        masks = [mask for _, _, mask in found if mask is not None]
        joined = torch.cat([pixels for _, pixels, _ in found])
        yield [key for key, _, _ in found], joined, torch.cat(masks) if masks else None


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
