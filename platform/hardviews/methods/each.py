"""Several views through one network, one after the other or as one batch: the scope of BatchNorm's statistics."""

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

    With `together`, inputs of one shape are forwarded as one batch; all inputs of a generator are then held at once.
    The same holds for `by_view`, the module with the network's BatchNorm, which then normalises each input by itself.
    """
    if not together and by_view is None:
        return {key: network(tensor) for key, tensor in inputs}
    by_shape: dict[torch.Size, dict[Key, Tensor]] = {}
    for key, tensor in inputs:
        # Views with different numbers of rows cannot be separated in one batch.
        by_shape.setdefault(tensor.shape[1:] if together else tensor.shape, {})[key] = tensor
    outputs: dict[Key, Tensor] = {}
    for alike in by_shape.values():
        with nullcontext() if together or by_view is None else view_by_view(by_view, len(alike)):
            joined = network(torch.cat(list(alike.values())))
        outputs.update(zip(alike, joined.split([len(tensor) for tensor in alike.values()]), strict=True))
    return outputs


def batches(views: Mapping[Key, View], join: bool) -> Iterator[tuple[list[Key], Tensor, Tensor | None]]:
    """Yield the keys of views that are one batch for a network, their pixels and their masks, view after view.

    Views of one size are joined, masked views apart from others. Without `join` each view is a batch of its own.
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
    """Return the embedding of every view, made one after the other; the views of one pool move BatchNorm once.

    So running statistics weigh the pools as the published multi-crop code does, which makes one batch of all views of a
    size. Otherwise many small views would dominate them, although the encoder is used on full-size images.
    """
    views = list(dict.fromkeys(views))
    alike = Counter(view.slot.pool for view in views)
    embedded = {}
    for view in views:
        with moving_once(module, alike[view.slot.pool]):
            embedded[view] = embed(view.pixels())
    return embedded
