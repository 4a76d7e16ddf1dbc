"""BatchNorm over fixed groups of samples, which no rank boundary cuts: the same at any number of ranks.

What every GPU normalises by itself in MoCo (He et al. 2020, section 3.3) is a group here.

Shape legend: N rows, C channels, ... spatial dimensions.
"""

import torch
from torch import Tensor, nn

from hardviews.collectives import sum_over_ranks
from hardviews.full_precision import full_precision


class Groups:
    """Which rows are normalised together."""

    def __init__(self, size: int, position: Tensor | None = None) -> None:
        """Group rows of successive positions (N,), on the CPU; without positions successive rows."""
        self.size = size
        self.order: Tensor | None = None
        if position is not None and bool((position[1:] < position[:-1]).any()):
            self.order = torch.argsort(position)

    def split(self, x: Tensor) -> list[Tensor]:
        """Return the rows of each group."""
        return list((x if self.order is None else x[self.order.to(x.device)]).split(self.size))

    def join(self, parts: list[Tensor]) -> Tensor:
        """Return the rows in the order they had."""
        rows = torch.cat(parts)
        return rows if self.order is None else rows[torch.argsort(self.order).to(rows.device)]

    def normalise(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return x (N, C, ...) normalised group by group, and the mean over the groups of all ranks of their means and
        unbiased variances (C,).
        """
        parts, means, variances = [], [], []
        for part in self.split(x):
            mean_C, var_C = (full_precision(x).new_zeros(x.shape[1]) for _ in range(2))
            # With a momentum of 1 the running statistics become those of the group.
            parts.append(nn.functional.batch_norm(part, mean_C, var_C, weight, bias, True, 1.0, eps))
            means.append(mean_C)
            variances.append(var_C)
        count = torch.full_like(means[0][:1], float(len(parts)))
        total = sum_over_ranks(torch.cat([torch.stack(means).sum(0), torch.stack(variances).sum(0), count]))
        mean_C, var_C = (total[:-1] / total[-1]).tensor_split(2)
        return self.join(parts), mean_C, var_C
