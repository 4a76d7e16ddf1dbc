"""The logarithm of a sum over many similarities, without their matrix.

A contrastive loss divides by a sum over all candidates. Its plain form keeps the logits of all anchors and candidates
for the backward pass: memory that grows with the square of the batch. Here logits are made block by block, and made
again in the backward pass.

Shape legend: B anchors, G candidates, D width, R anchors and C candidates of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Side of a square block, unless a method has a setting for it.
BLOCK = 1024


def few(anchors_BD: Tensor, candidates_GD: Tensor, block: int) -> bool:
    """Return whether all similarities fit into one block of `block` x `block`, so that the plain form is used."""
    return len(anchors_BD) * len(candidates_GD) <= block * block


def log_sum(
    anchors_BD: Tensor,
    candidates_GD: Tensor,
    temperature: float,
    block: int = BLOCK,
    excluded_B: Tensor | None = None,
) -> Tensor:
    """Return log sum_g exp(anchor . candidate_g / temperature) (B,), in blocks of block^2 similarities.

    `excluded_B` is one candidate of each anchor that is not counted. Products are made in the precision of the tensors,
    without autocast.
    """
    result: Tensor = _LogSum.apply(anchors_BD, candidates_GD, temperature, block, excluded_B)
    return result


class _LogSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchors_BD: Tensor,
        candidates_GD: Tensor,
        temperature: float,
        block: int,
        excluded_B: Tensor | None,
    ) -> Tensor:
        total_B = anchors_BD.new_full((len(anchors_BD),), -torch.inf)
        for rows, columns in _blocks(anchors_BD, candidates_GD, block):
            logits_RC = _logits(anchors_BD, candidates_GD, temperature, excluded_B, rows, columns)
            total_B[rows] = torch.logaddexp(total_B[rows], logits_RC.logsumexp(1))
        ctx.save_for_backward(anchors_BD, candidates_GD, total_B, excluded_B)
        ctx.temperature, ctx.block = temperature, block
        return total_B

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        anchors_BD, candidates_GD, total_B, excluded_B = ctx.saved_tensors
        scaled_B = grads[0] / ctx.temperature
        grad_BD = torch.zeros_like(anchors_BD) if ctx.needs_input_grad[0] else None
        grad_GD = torch.zeros_like(candidates_GD) if ctx.needs_input_grad[1] else None
        for rows, columns in _blocks(anchors_BD, candidates_GD, ctx.block):
            shares_RC = _logits(anchors_BD, candidates_GD, ctx.temperature, excluded_B, rows, columns)
            shares_RC.sub_(total_B[rows, None]).exp_().mul_(scaled_B[rows, None])
            with torch.autocast(anchors_BD.device.type, enabled=False):
                if grad_BD is not None:
                    grad_BD[rows].addmm_(shares_RC, candidates_GD[columns])
                if grad_GD is not None:
                    grad_GD[columns].addmm_(shares_RC.T, anchors_BD[rows])
        return grad_BD, grad_GD, None, None, None


def _blocks(anchors_BD: Tensor, candidates_GD: Tensor, block: int) -> Iterator[tuple[slice, slice]]:
    rows = min(len(anchors_BD), block)
    columns = max(1, block * block // max(1, rows))
    for top in range(0, len(anchors_BD), rows):
        for left in range(0, len(candidates_GD), columns):
            yield slice(top, top + rows), slice(left, left + columns)


def _logits(
    anchors_BD: Tensor,
    candidates_GD: Tensor,
    temperature: float,
    excluded_B: Tensor | None,
    rows: slice,
    columns: slice,
) -> Tensor:
    with torch.autocast(anchors_BD.device.type, enabled=False):
        logits_RC = anchors_BD[rows] @ candidates_GD[columns].T
    logits_RC.div_(temperature)
    if excluded_B is not None:
        place_RC = torch.arange(columns.start, columns.start + logits_RC.shape[1], device=logits_RC.device)
        logits_RC.masked_fill_(place_RC == excluded_B[rows, None], -torch.inf)
    return logits_RC
