"""Crops of photographs that packages ship."""

from functools import cache

import numpy as np
import torch
from skimage import data as skimage_data
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn.functional import interpolate


@cache
def pictures() -> list[Tensor]:
    """Return photographs as uint8 tensors (3, H, W)."""
    arrays = [*load_sample_images().images, skimage_data.astronaut(), skimage_data.coffee(), skimage_data.chelsea()]
    return [torch.from_numpy(np.array(array)).permute(2, 0, 1) for array in arrays]


@cache
def crops(samples: int, seed: int, size: int = 32) -> Tensor:
    """Cut a random square from the region of each sample, uint8 (B, 3, size, size).

    A sample is a place in a photograph; two seeds show it shifted, and at another scale. Not to be written to.
    """
    generator = torch.Generator().manual_seed(seed)
    places = torch.Generator().manual_seed(0)
    shown = []
    for i in range(samples):
        picture = pictures()[i % len(pictures())]
        height, width = picture.shape[1:]
        y, x = torch.rand(2, generator=places).tolist()
        side = int(96 + 64 * torch.rand((), generator=generator).item())
        dy, dx = (24 * torch.rand(2, generator=generator)).int().tolist()
        top = int(y * (height - 190)) + dy
        left = int(x * (width - 190)) + dx
        crop = picture[None, :, top : top + side, left : left + side].float()
        shown.append(interpolate(crop, (size, size), mode="bilinear", antialias=True)[0])
    return torch.stack(shown).round().clamp(0, 255).to(torch.uint8)
