"""Programs of the pair that try collectives and BatchNorm by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hardviews.collectives import gather_rows, sum_over_ranks
from hardviews.models.batchnorm import BranchedBatchNorm, add_adversarial_branch, normalising


def own_rows(rows: Tensor, shares: Sequence[int]) -> Tensor:
    """Cut this rank's share out of the rows of all (all of them if no group runs)."""
    return rows.split(list(shares))[dist.get_rank()] if dist.is_initialized() else rows


def similarities(rows: Tensor, shares: Sequence[int]) -> tuple[Tensor, Tensor, int]:
    """Score own rows against all; return the scores, the gradient at own rows, and the place of the first."""
    own = own_rows(rows, shares).clone().requires_grad_()
    everybody, first = gather_rows(own)
    scores = (own @ everybody.T).exp()
    scores.sum().backward()
    return scores.detach(), own.grad, first  # type: ignore[return-value]


def gathered(rows: Tensor, shares: Sequence[int]) -> Tensor:
    return gather_rows(own_rows(rows, shares))[0]


def summed(values: Sequence[float]) -> Tensor:
    own = torch.tensor(values[dist.get_rank()], requires_grad=True)
    total = sum_over_ranks(own)
    assert own.item() == values[dist.get_rank()], "the argument was changed"
    assert not total.requires_grad
    return total


@dataclass(frozen=True)
class Norm:
    """A BatchNorm to try, and the branch and modes to try it in."""

    settings: dict[str, Any]
    shape: tuple[int, ...]
    shares: tuple[int, int]
    dtype: torch.dtype = torch.float64
    branch: str = "main"
    update: bool = True


def normalised(case: Norm) -> dict[str, Tensor]:
    """Forward two batches and take gradients; `rows` come back rank by rank, the rest is everybody's."""
    generator = torch.Generator().manual_seed(0)
    channels = case.shape[1]
    plain = nn.BatchNorm2d(channels, **case.settings)
    if plain.affine:
        plain.weight.data.uniform_(0.5, 1.5, generator=generator)
        plain.bias.data.uniform_(-1, 1, generator=generator)
    norm = BranchedBatchNorm(plain).to(case.dtype)
    add_adversarial_branch(norm)
    out: dict[str, Tensor] = {}
    for step in range(2):
        scale = torch.rand(channels, generator=generator).view(-1, *[1] * (len(case.shape) - 2))
        whole = (torch.randn(case.shape, generator=generator) * (scale + 0.1) + 3 * scale).to(case.dtype)
        x = own_rows(whole, case.shares).clone().requires_grad_()
        weights = own_rows(torch.randn(case.shape, generator=generator).to(case.dtype), case.shares)
        with normalising(norm, case.branch, case.update):  # type: ignore[arg-type]
            y = norm(x)
        (y.sin() * weights).sum().backward()
        out |= {f"rows y{step}": y.detach(), f"rows grad{step}": x.grad}  # type: ignore[dict-item]
    for name, parameter in norm.named_parameters():
        if parameter.grad is not None:
            out[f"summed grad {name}"] = parameter.grad
    return out | {f"state {name}": tensor.clone() for name, tensor in norm.state_dict().items()}
