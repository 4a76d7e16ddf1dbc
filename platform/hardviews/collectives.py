"""Collectives with the gradient of a single process.

The rule of the gather: each rank scores its own rows against everybody's, and the gather's backward sums over
ranks. Then the sum over ranks of the losses has exactly the gradient that one process computes on the whole
batch.

Shape legend: B rows of this rank, G rows of all ranks.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_MESSAGE = 64 * 2**20  # most bytes of a broadcast


def world_size() -> int:
    """Return the number of processes, 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's rank, 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks, without gradient."""
    if world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def row_counts(rows: int, device: torch.device) -> list[int]:
    """Return the number of rows of each rank."""
    counts = torch.zeros(world_size(), dtype=torch.int64, device=device)
    counts[rank()] = rows
    return [int(count) for count in sum_over_ranks(counts)]


def gather_rows(rows_BD: Tensor) -> tuple[Tensor, int]:
    """Gather the rows of all ranks, in rank order, differentiably; shares may differ in size.

    Return the rows (G, ...) and the place of this rank's first row among them.
    """
    if world_size() == 1:
        return rows_BD, 0
    counts = row_counts(len(rows_BD), rows_BD.device)
    gathered: Tensor = _Gather.apply(rows_BD, counts)
    return gathered, sum(counts[: rank()])


def order_of_rows(position_B: Tensor, device: torch.device) -> Tensor:
    """Return the order (G,) that sorts the gathered rows of all ranks by their samples' places in the epoch's order.

    If the order of rows matters, as in a full queue, it must not depend on ranks and micro-batches.
    """
    position_G, _ = gather_rows(position_B.to(device, non_blocking=True))
    return position_G.argsort(stable=True)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        first = sum(ctx.counts[: rank()])
        return total[first : first + ctx.counts[rank()]], None


def broadcast_tensors(tensors: Mapping[str, Tensor] | None, device: torch.device) -> dict[str, Tensor]:
    """Give every rank the named CPU tensors that rank 0 holds; the others pass None.

    They are sent as bytes through `device`, many at a time, so that many small tensors cost few messages.
    """
    if world_size() == 1:
        return dict(tensors or {})
    layouts: list[list[tuple[str, torch.dtype, torch.Size]] | None] = [None]
    if tensors is not None:
        layouts = [[(name, tensor.dtype, tensor.shape) for name, tensor in tensors.items()]]
    dist.broadcast_object_list(layouts, src=0, device=device)
    received: dict[str, Tensor] = {}
    for portion in _portions(layouts[0] or []):
        sizes = [shape.numel() * dtype.itemsize for _, dtype, shape in portion]
        if tensors is not None:
            parts = [tensors[name].detach().contiguous().reshape(-1).view(torch.uint8) for name, _, _ in portion]
            message = torch.cat(parts).to(device)
        else:
            message = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        dist.broadcast(message, src=0)
        for (name, dtype, shape), part in zip(portion, message.cpu().split(sizes), strict=True):
            # A copy is aligned for its type; a place inside the message need not be.
            received[name] = part.clone().view(dtype).reshape(shape)
    return received


def _portions(
    entries: Sequence[tuple[str, torch.dtype, torch.Size]],
) -> Iterator[list[tuple[str, torch.dtype, torch.Size]]]:
    """Yield consecutive entries that make a message of at most some megabytes, or a single larger one."""
    portion: list[tuple[str, torch.dtype, torch.Size]] = []
    size = 0
    for entry in entries:
        bytes_ = entry[2].numel() * entry[1].itemsize
        if portion and size + bytes_ > _MESSAGE:
            yield portion
            portion, size = [], 0
        portion.append(entry)
        size += bytes_
    if portion:
        yield portion
