"""FLOPs and memory of operations on fake tensors, which have shapes and no numbers.

The formulas come from `torch.utils.flop_counter`. Its own counter, and torch's memory tracker
(`torch.distributed._tools.mem_tracker`), hook the parameters of every module. Neither bears the gradient that an attack
asks for inside a forward pass, and the memory tracker bears no frozen parameter either. Here are no hooks.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_INDEXING = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_, torch.ops.aten._index_put_impl_)


class Tally(TorchDispatchMode):
    """Counts the operations inside, and the bytes of tensors that are alive at once.

    flops: so far; a multiplication and its addition are two. live: bytes now. peak: the most bytes so far. The device
    of the fake tensors is `kind`; other tensors are not counted.
    """

    def __init__(self, kind: type[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops, self.live, self.peak = 0, 0, 0
        self._kind = kind
        self._masks: dict[int, Tensor] = {}
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def know(self, *masks: Tensor) -> None:
        """Take masks with numbers, as iBOT draws them on the CPU: one that is chosen among others stands for any."""
        self._masks.update({mask.numel(): mask.bool() for mask in masks})

    def _places(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return indices in which masks are lists of the places that they name."""
        found: list[Tensor | None] = []
        for index in indices:
            mask = index
            if index is not None and isinstance(index, self._kind):
                mask = self._masks.get(index.numel())
            if index is None or mask is None or index.dtype != torch.bool:
                found.append(index)
            else:
                found += mask.reshape(index.shape).nonzero().unbind(1)
        return found

    def hold(self, *tensors: Tensor) -> None:
        """Count tensors that no operation inside makes; one storage counts once."""
        for tensor in tensors:
            if not isinstance(tensor, self._kind):
                continue
            storage = tensor.untyped_storage()
            if storage in self._known:
                continue
            self._known.add(storage)
            size = storage.nbytes()
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._let_go, size)

    def _let_go(self, size: int) -> None:
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation."""
        kwargs = kwargs or {}
        if func._overloadpacket in _INDEXING:
            args = (args[0], self._places(args[1]), *args[2:])
        elif func._overloadpacket is torch.ops.aten.nonzero and isinstance(args[0], self._kind):
            args = (self._masks.get(args[0].numel(), args[0]).reshape(args[0].shape),)
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        self.hold(*(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)))
        return out
