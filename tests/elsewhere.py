"""A device that this machine does not have: tensors on it have numbers, and mix with the CPU's no more than a GPU's do.

`torch.device("meta")` stands for it, since torch's autograd and modules accept that device without a driver. A tensor
there holds a tensor of the CPU, by which everything is computed. An operation that a GPU would refuse, because one of
its tensors lies on the CPU, raises `Mixed`. Operations that make the CPU wait for a GPU are counted.
"""

from collections import Counter
from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")
_CPU = torch.device("cpu")
_ATEN = torch.ops.aten
_COPIES = {_ATEN._to_copy, _ATEN.copy_}
_INDEXING = {_ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_}
# Of which a GPU takes no number of the CPU either.
_JOINING = {_ATEN.cat, _ATEN.stack, _ATEN.mm, _ATEN.bmm, _ATEN.addmm, _ATEN.index_select, _ATEN.gather}
# Their result's size, or the number that they return, is known when the GPU is done.
_WAITING = {
    _ATEN._local_scalar_dense,
    _ATEN.nonzero,
    _ATEN.masked_select,
    _ATEN.equal,
    _ATEN._unique2,
    _ATEN.unique_dim,
    _ATEN.repeat_interleave,
}


class Mixed(Exception):
    """Tensors of two devices meet in one operation."""


class Elsewhere(Tensor):
    """A tensor elsewhere; `held` is the CPU's by which it is computed."""

    @staticmethod
    def __new__(cls, held):
        made = Tensor._make_wrapper_subclass(cls, held.shape, strides=held.stride(), dtype=held.dtype, device=ELSEWHERE)
        made.held = held
        return made

    def __init__(self, held):
        pass

    def __repr__(self):
        return f"elsewhere({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, Counter())


def _run(func, args, kwargs, waits):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere)]
    packet = func._overloadpacket
    goes = bool(there)
    if kwargs.get("device") is not None:
        goes = torch.device(kwargs["device"]) == ELSEWHERE
        kwargs = {**kwargs, "device": _CPU}
    if packet is _ATEN.copy_:
        goes = isinstance(args[0], Elsewhere)
    if there and here:
        _check(func, packet, args, here)
    if packet in _WAITING and there:
        waits[packet.__name__] += 1
    elif packet in _INDEXING and any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]):
        waits["boolean index"] += 1
    elif packet in _COPIES and there and not goes:
        waits["copy to the CPU"] += 1
    elif packet in _COPIES and here and goes and not _asks_not_to_wait(packet, args, kwargs):
        waits["copy from the CPU"] += 1
    known = {id(tensor.held): tensor for tensor in there}

    def inside(leaf):
        return leaf.held if isinstance(leaf, Elsewhere) else leaf

    def outside(leaf):
        if not isinstance(leaf, Tensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else Elsewhere(leaf) if goes else leaf

    return tree_map(outside, func(*tree_map(inside, args), **tree_map(inside, kwargs)))


def _asks_not_to_wait(packet, args, kwargs):
    """Return whether a copy may go on while the device works; from the CPU that is safe, whatever its memory is."""
    given = args[2] if packet is _ATEN.copy_ and len(args) > 2 else kwargs.get("non_blocking", False)
    return bool(given)


def _check(func, packet, args, here):
    if packet in _COPIES:
        return
    if packet in _INDEXING and isinstance(args[0], Elsewhere):
        # A GPU takes indices of the CPU, and values that are a number.
        here = [leaf for leaf in tree_leaves(args[2:]) if isinstance(leaf, Tensor) and not isinstance(leaf, Elsewhere)]
    if any(tensor.ndim or packet in _JOINING for tensor in here):
        raise Mixed(f"{func}: a tensor of the CPU, of shape {[tuple(tensor.shape) for tensor in here]}")


class _Dispatch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, self.waits)


class _Functions(TorchFunctionMode):
    """`torch.tensor` makes its tensor beside all modes, and `tolist` refuses tensors of other classes."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = torch.device(kwargs.pop("device"))
            return func(*args, **kwargs).to(device)
        if func is Tensor.tolist:
            return args[0].to(_CPU).tolist() if isinstance(args[0], Elsewhere) else func(*args)
        return func(*args, **kwargs)


@contextmanager
def elsewhere():
    """Inside, the device exists. Yields the number of times that the CPU waited for it, by the operation."""
    with ExitStack() as stack:
        # torch has no autocast for the device that stands for it.
        stack.enter_context(mock.patch("torch.autocast", lambda *_, **__: nullcontext()))
        stack.enter_context(_Functions())
        mode = stack.enter_context(_Dispatch())
        yield mode.waits
