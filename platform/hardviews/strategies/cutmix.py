"""CutMix: a box of another image is pasted in, and the labels are mixed by area.

Yun et al., "CutMix" (ICCV 2019), algorithm 1; as a hard view for self-supervision: HEXA (Li et al. 2020). The weight is
computed again from the box after it was clipped to the image. So it is the exact unpasted area, with mean 0.68 at 224
pixels, not 0.5.

Shape legend: B samples, H height, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hardviews.batch import Batch, Mix
from hardviews.strategies.mix import Mixing
from hardviews.views.random import Purpose, uniform


@dataclass(frozen=True)
class CutMix(Mixing):
    """Pastes a box of a partner's view into each online view."""

    def _mix(self, pixels: Tensor, batch: Batch, stream: int, grid: int) -> tuple[Tensor, Mix]:
        height, width = pixels.shape[-2:]
        clock = batch.clock
        centre_B2 = uniform(clock.seed, Purpose.BOX, clock.epoch, self.keys(batch), stream, 2)
        box_B4 = snap(cut_box(self.weights(batch, stream), centre_B2, height, width), grid)
        partner_B = self.partners(batch, stream)
        others = pixels[partner_B.to(pixels.device, non_blocking=True)]
        mixed = paste(pixels, others, box_B4.to(pixels.device, non_blocking=True))
        area_B = (box_B4[:, 2] - box_B4[:, 0]) * (box_B4[:, 3] - box_B4[:, 1])
        return mixed, Mix(partner_B, 1 - area_B.double() / (height * width), box_B4)


def cut_box(weight_B: Tensor, centre_B2: Tensor, height: int, width: int) -> Tensor:
    """Return boxes (B, 4) int64 top, left, bottom, right of area 1 - weight around a centre, clipped.

    centre (B, 2) is uniform in [0, 1). The box has the image's aspect ratio before it is clipped, and even
    sides, rounded down, as in the published code.
    """
    side_B = (1 - weight_B).clamp(0, 1).sqrt()
    bounds = []
    for length, centre_B in ((height, centre_B2[:, 0]), (width, centre_B2[:, 1])):
        half_B = (length * side_B).long() // 2
        middle_B = (centre_B * length).long()
        bounds.append(((middle_B - half_B).clamp(0, length), (middle_B + half_B).clamp(0, length)))
    (top, bottom), (left, right) = bounds
    return torch.stack([top, left, bottom, right], dim=1)


def snap(box_B4: Tensor, grid: int) -> Tensor:
    """Return boxes whose sides are moved to the nearest lines of a grid of `grid` pixels; 1 moves nothing."""
    return (box_B4 + grid // 2) // grid * grid


def paste(pixels: Tensor, others: Tensor, box_B4: Tensor) -> Tensor:
    """Return pixels (B, C, H, W) with each box filled from the others."""
    top, left, bottom, right = (box_B4[:, i, None] for i in range(4))
    rows = torch.arange(pixels.shape[-2], device=pixels.device)
    columns = torch.arange(pixels.shape[-1], device=pixels.device)
    inside_BH = (rows >= top) & (rows < bottom)
    inside_BW = (columns >= left) & (columns < right)
    inside_BHW = inside_BH[:, :, None] & inside_BW[:, None, :]
    return torch.where(inside_BHW[:, None], others, pixels)
