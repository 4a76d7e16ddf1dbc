"""Fixed groups of samples, each normalised by its own statistics: BatchNorm that does not depend on ranks.

MoCo (He et al., CVPR 2020, section 3.3) uses the statistics of each GPU. Here they are the statistics of a group of
positions, which no rank boundary cuts: for 256 images on 8 GPUs, groups of 32.

Shape legend: N rows (one a sample, or as many for each), C channels, ... spatial dimensions.
"""

import torch
from torch import Tensor, nn

from hardviews.collectives import sum_over_ranks
from hardviews.full_precision import full_precision


class Groups:
    """The rows that are normalised together, and their effect on running statistics."""

    def __init__(self, samples: int, size: int, position: Tensor | None = None) -> None:
        """Group samples of successive positions (samples,), in any order; without positions, successive rows."""
        if size < 1 or samples % size:
            raise ValueError(f"{samples} samples are no whole groups of {size}")
        self.samples, self.size = samples, size
        self.order: Tensor | None = None
        if position is not None and bool((position.diff() < 0).any()):
            self.order = position.argsort()
        # A layer, the momentum of its running statistics, and the sums over groups of its means and variances (2C,).
        self._seen: list[tuple[nn.modules.batchnorm._BatchNorm, float, Tensor]] = []

    def split(self, x: Tensor) -> list[Tensor]:
        """Return the rows (N, C, ...) of each group."""
        if len(x) % self.samples:
            raise ValueError(f"{len(x)} rows are not as many for each of {self.samples} samples")
        if self.order is not None:
            x = x.unflatten(0, (self.samples, -1))[self.order.to(x.device, non_blocking=True)].flatten(0, 1)
        return list(x.split(len(x) // self.samples * self.size))

    def join(self, parts: list[Tensor]) -> Tensor:
        """Put rows back to their places before `split`."""
        x = torch.cat(parts) if len(parts) > 1 else parts[0]
        if self.order is not None:
            x = x.unflatten(0, (self.samples, -1))[self.order.argsort().to(x.device, non_blocking=True)].flatten(0, 1)
        return x

    def normalise(self, norm: nn.modules.batchnorm._BatchNorm, x: Tensor, momentum: float | None) -> Tensor:
        """Return x (N, C, ...) normalised group by group; running statistics will move by a momentum, or stay."""
        tracked = norm.running_mean if momentum is not None else None
        outs, moments = [], []
        for part in self.split(x):
            mean_C, var_C = (None if tracked is None else torch.zeros_like(tracked) for _ in range(2))
            # With a momentum of 1, running statistics become the group's mean and unbiased variance.
            outs.append(nn.functional.batch_norm(part, mean_C, var_C, norm.weight, norm.bias, True, 1.0, norm.eps))
            if mean_C is not None and var_C is not None:
                moments.append(torch.cat([mean_C, var_C]))
        if moments and momentum is not None:
            self._seen.append((norm, momentum, full_precision(torch.stack(moments)).sum(0)))
        return self.join(outs)

    def move_statistics(self) -> None:
        """Move running statistics by the means over the groups of all ranks, like an average of the GPUs' own."""
        if not self._seen:
            return
        sums = [moments for _, _, moments in self._seen]
        total = sum_over_ranks(torch.cat([*sums, torch.full_like(sums[0][:1], self.samples // self.size)]))
        means = (total[:-1] / total[-1]).split([len(moments) for moments in sums])
        for (norm, momentum, _), moments_2C in zip(self._seen, means, strict=True):
            for running, moment_C in zip((norm.running_mean, norm.running_var), moments_2C.chunk(2), strict=True):
                if running is not None:
                    running.lerp_(moment_C.to(running.dtype), momentum)
        self._seen.clear()
