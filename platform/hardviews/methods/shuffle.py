"""Shuffled BatchNorm: keys are normalised in other groups than their queries.

He et al., "Momentum Contrast" (CVPR 2020), section 3.3: a query and its key that share the statistics of a group know
each other by these. Here a group is a fixed number of samples and not what one GPU holds, and the shuffle is drawn from
the samples' places in the epoch: neither depends on the number of ranks.

Shape legend: B samples of this rank, G samples of all ranks.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hardviews.batch import Batch
from hardviews.collectives import gather_rows
from hardviews.views.random import Purpose, words


@torch.no_grad()
def shuffled(encode: Callable[[Tensor], Tensor], batch: Batch, pixels: Tensor) -> Tensor:
    """Return the encodings (B, D) of pixels (B, ...), made from samples in a random order over all ranks.

    As many samples are encoded here as before, whichever they are.
    """
    pixels_G, first = gather_rows(pixels)
    position_G, _ = gather_rows(batch.position.to(pixels.device))
    clock = batch.clock
    drawn_G = words(clock.seed, Purpose.SHUFFLE, clock.epoch, position_G, 0, 1)[:, 0]
    order_G = torch.argsort(drawn_G >> 1 << 32 | position_G)  # of equal draws the lower position
    own = slice(first, first + len(pixels))
    encoded_G, _ = gather_rows(encode(pixels_G[order_G[own]]))
    back_G = torch.empty_like(order_G)
    back_G[order_G] = torch.arange(len(order_G), device=order_G.device)
    return encoded_G[back_G[own]]
