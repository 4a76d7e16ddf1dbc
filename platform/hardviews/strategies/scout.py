"""The knowledge of a strategy that learns: a ridge regression from the features of views to the loss of a sample.

The state is a matrix of sums and a count. The objective owns them as buffers, so checkpoints hold them. The sums of
ranks and micro-batches add up to the sums of the whole batch, for any number of them.

Shape legend: A assignments, B samples, F features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hardviews.collectives import sum_over_ranks

_FLAT = 1e-10  # a smaller variance is rounding; as a share of the mean square


class Scout(nn.Module):
    """Sums over samples of the products of (features, 1) with (features, 1, loss), which fade step by step.

    Attributes:
        decay: share of the earlier sums that a step keeps.
        ridge: penalty on the squared weights, in units of a feature's variance.
        warm_up: number of steps before it predicts.
        sums: sums of products (F + 1, F + 2) float64, over the samples seen.
        steps: number of steps seen so far.
    """

    sums: Tensor
    steps: Tensor

    def __init__(self, features: int, decay: float, ridge: float, warm_up: int) -> None:
        super().__init__()
        self.decay, self.ridge, self.warm_up = decay, ridge, warm_up
        self.register_buffer("sums", torch.zeros(features + 1, features + 2, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def lesson(self, features_BF: Tensor, losses_B: Tensor, valid_B: Tensor | None) -> Tensor:
        """Return the sums (F + 1, F + 2) of some samples; invalid ones do not count."""
        one_B = torch.ones_like(features_BF[:, 0])
        known_BF = torch.cat([features_BF, one_B[:, None]], dim=1)
        all_BF = torch.cat([known_BF, losses_B.detach().to(known_BF)[:, None]], dim=1)
        weight_B = one_B if valid_B is None else valid_B.to(one_B)
        # A loss without a label may be anything: 0 * NaN is NaN.
        all_BF = torch.where(weight_B[:, None] > 0, all_BF, 0.0)
        return known_BF.T @ all_BF

    @torch.no_grad()
    def learn(self, lessons: Sequence[Tensor]) -> None:
        """Learn from a step: the sums of this rank's micro-batches. Every rank calls this at the same step."""
        total = sum_over_ranks(torch.stack(list(lessons)).sum(0))
        self.sums.mul_(self.decay).add_(total)
        self.steps.add_(1)

    @property
    def ready(self) -> Tensor:
        """Whether it has seen enough to predict, as a number on the device."""
        return self.steps >= self.warm_up

    @torch.no_grad()
    def predict(self, features_ABF: Tensor) -> Tensor:
        """Return predicted losses (A, B) float64, up to a constant: the larger, the harder."""
        sums = self.sums.double()
        count = sums[-1, -2].clamp(min=1)
        mean_F, mean_loss = sums[-1, :-2] / count, sums[-1, -1] / count
        covariance_FF = sums[:-1, :-2] / count - mean_F[:, None] * mean_F
        with_loss_F = sums[:-1, -1] / count - mean_F * mean_loss
        variance_F = covariance_FF.diagonal()
        varies_F = variance_F > _FLAT * (sums[:-1, :-2].diagonal() / count).clamp(min=1e-30)
        # A feature that has not varied gets no weight.
        scale_F = torch.where(varies_F, variance_F.clamp(min=1e-300).rsqrt(), 0.0)
        correlation_FF = covariance_FF * scale_F[:, None] * scale_F
        penalty_FF = torch.eye(len(scale_F), dtype=sums.dtype, device=sums.device) * self.ridge
        # Unlike `solve`, this does not wait for the device; the penalty makes the system solvable.
        weight_F = torch.linalg.solve_ex(correlation_FF + penalty_FF, with_loss_F * scale_F)[0] * scale_F
        predicted_AB: Tensor = (features_ABF - mean_F) @ weight_F
        return predicted_AB
