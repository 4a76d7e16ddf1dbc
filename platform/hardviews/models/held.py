"""Statistics of a batch that an attack holds constant.

In training, BatchNorm couples the samples of a batch: a gradient through its statistics moves a sample's pixels in
favour of the others too, and a change common to all samples is normalised away. If an attack holds the statistics of
its initial views, it climbs each sample's own loss.

Shape legend: N rows, C channels, R ranks.
"""

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hardviews.collectives import world_size
from hardviews.full_precision import full_precision

Kind = Literal["held", "batch", "running"]


class HeldStatistics:
    """Statistics for an attack's passes of one view: stored in the first pass, and used in all later ones.

    `kind` "held" keeps the statistics of the first pass over all ranks, "running" takes the running statistics of the
    branch, as evaluation does, and "batch" uses each pass's own batch, with gradient.
    """

    def __init__(self, kind: Kind = "held") -> None:
        self.kind = kind
        self._kept: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
        self._calls: dict[nn.Module, int] = {}

    def rewind(self) -> None:
        """Begin another pass."""
        self._calls.clear()

    def of(self, norm: nn.modules.batchnorm._BatchNorm, x: Tensor, over_ranks: bool = True) -> tuple[Tensor, Tensor]:
        """Return mean and variance (C,) for this call of a layer: over the rows of all ranks, or only these.

        A pass may call a layer more than once.
        """
        if self.kind == "running" and norm.running_mean is not None and norm.running_var is not None:
            return norm.running_mean, norm.running_var
        number = self._calls.get(norm, 0)
        self._calls[norm] = number + 1
        kept = self._kept.setdefault(norm, [])
        if number == len(kept):
            kept.append(batch_statistics(x.detach(), over_ranks)[:2])
        return kept[number]


def batch_statistics(x: Tensor, over_ranks: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and biased variance (C,) of (N, C, ...), over all ranks or here, and their count (1,)."""
    var_C, mean_C = torch.var_mean(full_precision(x), [d for d in range(x.dim()) if d != 1], correction=0)
    count = torch.full_like(mean_C[:1], x.numel() / x.shape[1])
    if world_size() == 1 or not over_ranks:
        return mean_C, var_C, count
    own = torch.cat([mean_C, var_C, count])
    parts = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(parts, own)
    means_RC, vars_RC, counts_R1 = torch.stack(parts).tensor_split([len(mean_C), 2 * len(mean_C)], 1)
    total = counts_R1.sum(0)
    mean_C = (means_RC * counts_R1).sum(0) / total
    var_C = ((vars_RC + (means_RC - mean_C) ** 2) * counts_R1).sum(0) / total
    return mean_C, var_C, total
