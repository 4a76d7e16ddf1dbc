"""The centre of a teacher's outputs, which is subtracted so that no output wins for every image.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (ICCV 2021), equation 4.

Shape legend: N rows, D bottleneck, K outputs.
"""

import torch
from torch import Tensor, nn

from hardviews.collectives import sum_over_ranks
from hardviews.full_precision import full_precision


class Centre(nn.Module):
    """A moving average of mean outputs, kept as a buffer."""

    mean: Tensor

    def __init__(self, outputs: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(outputs))

    @torch.no_grad()
    def follow(self, embeddings_ND: Tensor, weights_KD: Tensor) -> None:
        """Move towards the mean output of the rows of all ranks, for any number of rows on each.

        Outputs are linear in embeddings, so their mean is the output of the mean embedding.
        """
        rows_ND = full_precision(embeddings_ND)
        total = sum_over_ranks(torch.cat([rows_ND.sum(0), rows_ND.new_full((1,), len(rows_ND))]))
        mean_K = weights_KD @ (total[:-1] / total[-1])
        self.mean.lerp_(mean_K.to(self.mean), 1 - self.momentum)
