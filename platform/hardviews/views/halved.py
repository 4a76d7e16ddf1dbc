"""Smaller copies of canvases, made once a batch, from which any number of small views are rendered at low cost.

The cost of rendering grows with the pixels of the canvas: a 64-pixel view of a canvas of 512 reads 64 canvas pixels for
each of its own. A copy is the mean of squares of 2x2 pixels, of 4x4, ..., in 8 bits like the canvas.

Shape legend: B samples, H and W height and width of the canvas.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hardviews.views.augmentation import Augmentation
from hardviews.views.device import laid
from hardviews.views.params import Column


class Halved:
    """Canvases (B, 3, H, W) uint8 with images in the layout of `host.lay`, and their smaller copies."""

    def __init__(self, canvas: Tensor, rows: Tensor) -> None:
        """Take canvases, and the rows (B, C) of any view of their images, for the images' sizes."""
        self.canvas = canvas
        self._sources = rows[:, Column.SOURCE_HEIGHT], rows[:, Column.SOURCE_WIDTH]
        self._copies: dict[int, Tensor] = {1: canvas}

    def for_views(self, augmentation: Augmentation, size: int) -> tuple[Tensor, int]:
        """Return the smallest copy that is good enough for views of `size` pixels, and the pixels in one of its pixels.

        Its side is at least twice the views' side. A view of the smallest crop is not magnified more than from a square
        image of the canvas's size. The choice depends on the distribution and the size alone.
        """
        needed = size * max(2.0, augmentation.scale[0] ** -0.5)
        height, width = self.canvas.shape[-2:]
        times = 1
        while height % (2 * times) == 0 and width % (2 * times) == 0 and min(height, width) >= 2 * times * needed:
            times *= 2
        if times not in self._copies:
            self._copies[times] = self._shrunk(times)
        return self._copies[times], times

    def _shrunk(self, times: int) -> Tensor:
        height, width = self.canvas.shape[-2:]
        means = avg_pool2d(self.canvas.to(torch.float32), times)
        # At the image's edges part of a square is empty canvas.
        high_B, wide_B = (side.to(self.canvas.device, torch.float32, non_blocking=True) for side in self._sources)
        ratios = laid(high_B, wide_B, height, width)
        for dimension, ratio_B, source_B in zip((2, 3), ratios, (high_B, wide_B), strict=True):
            length_B1 = (source_B * ratio_B).round()[:, None] / times
            places = torch.arange(means.shape[dimension], device=means.device)
            share = (length_B1 - places).clamp(0, 1)
            share = torch.where(share > 0, share, 1.0)
            means = means / (share[:, None, :, None] if dimension == 2 else share[:, None, None, :])
        return means.round().clamp(0, 255).to(torch.uint8)
