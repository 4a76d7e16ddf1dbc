"""Shuffled BatchNorm: keys are normalised in other groups than queries.

He et al., "Momentum Contrast" (CVPR 2020), section 3.3: if a query and its key are normalised among the same samples,
their statistics reveal the match. There the keys of all GPUs are shuffled. Here the groups are fixed and the
permutation is drawn for the positions of the batch, so neither depends on the number of ranks.

Shape legend: B samples of this rank, G samples of all ranks, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hardviews.batch import Batch
from hardviews.collectives import gather_rows
from hardviews.views.random import Purpose, permutation_in_groups


class Shuffle:
    """A permutation of the samples of all ranks, the same for all views of a batch."""

    def __init__(self, batch: Batch, device: torch.device) -> None:
        """Draw the permutation from (seed, epoch, positions)."""
        position_G, first = gather_rows(batch.position.to(device, non_blocking=True))
        clock, own = batch.clock, slice(first, first + len(batch))
        permuted_G = permutation_in_groups(clock.seed, Purpose.SHUFFLE, clock.epoch, position_G, len(position_G))
        # Places are counted by position, not by row: the order of rows inside a batch means nothing.
        row_at_G = permuted_G[position_G.argsort()]
        self._here_B, self._back_B = row_at_G[own], row_at_G.argsort()[own]

    @torch.no_grad()
    def __call__(self, encode: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        """Return the encodings (B, D) of this rank's pixels (B, C, H, W), each made at its place of the permutation.

        `encode` gets as many images as this rank has, from any rank; successive ones are a group.
        """
        everybody_G, _ = gather_rows(pixels)
        encoded_GD, _ = gather_rows(encode(everybody_G[self._here_B].contiguous(memory_format=torch.channels_last)))
        return encoded_GD[self._back_B]
