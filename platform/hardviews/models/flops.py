"""The work of a network for a view of some size, in floating point operations of a forward pass.

Torch counts them on the meta device, without numbers. The work is not proportional to the area of a view: a network of
stride 32 rounds the side up to a multiple of 32, and a transformer's attention grows with the square of its tokens.
"""

from weakref import WeakKeyDictionary

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hardviews.models.resolution import run_without_numbers

_COUNTED: WeakKeyDictionary[nn.Module, dict[int, int]] = WeakKeyDictionary()


def forward_flops(network: nn.Module, size: int) -> int:
    """Return the operations of a forward pass of one square view of `size` pixels; 0 if they cannot be counted.

    A multiplication with an addition counts as two operations.
    """
    counted = _COUNTED.setdefault(network, {})
    if size not in counted:
        with FlopCounterMode(display=False) as counter:
            try:
                run_without_numbers(network, size, views=1)
            # Any error of any network.
            except Exception:
                return counted.setdefault(size, 0)
        counted[size] = int(counter.get_total_flops())
    return counted[size]


def work(network: nn.Module, size: int, full: int) -> float:
    """Return the work for a view of `size` pixels as a share of the work for `full` pixels; by area if unknown."""
    if size == full:
        return 1.0
    some, whole = forward_flops(network, size), forward_flops(network, full)
    return some / whole if some and whole else (size / full) ** 2
