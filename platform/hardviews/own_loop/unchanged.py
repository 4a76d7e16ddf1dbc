"""Networks that look at views and stay as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from hardviews.errors import UserError


def check_network(name: str, network: object) -> None:
    """Refuse anything but a network as the first argument of a function of that name.

    Raises:
        UserError: an argument is wrong; the message names the right one.
    """
    if not isinstance(network, nn.Module):
        raise UserError(
            f"{name} got a {type(network).__name__} as its network: pass the module as a whole, so that its BatchNorm "
            "statistics can be kept; several modules as nn.ModuleList([...])."
        )


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Inside, forward passes leave no trace: buffers and the random streams are put back at the end.

    So running statistics of BatchNorm do not move, and training draws the numbers that it would have drawn.
    """
    before = [(buffer, buffer.detach().clone()) for buffer in network.buffers()]
    devices = {tensor.device for tensor in [*network.parameters(), *network.buffers()] if tensor.is_cuda}
    with torch.random.fork_rng(sorted(devices, key=str)):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)
