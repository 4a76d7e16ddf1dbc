"""Encodings by slot: the answer of a method that encodes views."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hardviews.views.plan import Slot


@dataclass(frozen=True, eq=False)
class Encoded:
    """Encodings by slot: predictions of the online side, pseudo-labels of the target side."""

    online: Mapping[Slot, Any]
    target: Mapping[Slot, Any]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Encoded":
        """Apply a function to every tensor."""
        return Encoded(
            {slot: map_tensors(function, e) for slot, e in self.online.items()},
            {slot: map_tensors(function, e) for slot, e in self.target.items()},
        )

    def detached(self) -> "Encoded":
        """Return the same values without their graph."""
        return self.map(lambda tensor: tensor.detach())


def concatenate(parts: Sequence[Encoded]) -> Encoded:
    """Join the encodings of micro-batches row by row."""
    if len(parts) == 1:
        return parts[0]

    def join(sides: Sequence[Mapping[Slot, Any]]) -> dict[Slot, Any]:
        return {slot: map_tensors(lambda *t: torch.cat(t), *[side[slot] for side in sides]) for slot in sides[0]}

    return Encoded(join([part.online for part in parts]), join([part.target for part in parts]))


def tensors_of(tree: Any) -> list[Tensor]:
    """Return all tensors of a tuple (of tuples) of tensors."""
    return [tree] if isinstance(tree, Tensor) else [tensor for part in tree for tensor in tensors_of(part)]


def map_tensors(function: Callable[..., Tensor], *trees: Any) -> Any:
    """Apply a function to the tensors at the same place of equally built tuples (of tuples) of tensors."""
    first = trees[0]
    if isinstance(first, Tensor):
        return function(*trees)
    mapped = [map_tensors(function, *leaves) for leaves in zip(*trees, strict=True)]
    return type(first)(*mapped) if hasattr(first, "_fields") else tuple(mapped)
