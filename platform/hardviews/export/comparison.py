"""The check of an export: its features of a few fixed images, against the encoder's own.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hardviews.models.encoder import Encoder

BATCHES = (1, 3, 8)
"""Batches that every export is checked at: a size that was frozen while tracing would show."""

_COARSE = 4  # squares a side: images of one colour alone would not differ enough


def fixed_images(side: int) -> Tensor:
    """Return the same 8 uint8 images (8, 3, side, side) every time: squares of many colours with noise on them."""
    generator = torch.Generator().manual_seed(0)
    squares_BCHW = torch.rand(max(BATCHES), 3, _COARSE, _COARSE, generator=generator)
    noise_BCHW = torch.rand(max(BATCHES), 3, side, side, generator=generator)
    large_BCHW = F.interpolate(squares_BCHW, (side, side), mode="nearest")
    return (255 * (0.7 * large_BCHW + 0.3 * noise_BCHW)).to(torch.uint8)


@torch.no_grad()
def own_features(encoder: Encoder, images_BCHW: Tensor) -> Tensor:
    """Return the encoder's features (B, D) of uint8 images, in the usual memory format.

    `Encoder.embed` uses channels-last tensors, which changes the last bits of a convolution.
    """
    features_BD: Tensor = encoder(encoder.normalisation.normalise(images_BCHW))
    return features_BD


def difference(found_BD: Tensor, expected_BD: Tensor) -> float:
    """Return the largest relative difference of two arrays of features.

    For each image this is the largest absolute difference, divided by the largest absolute feature. Infinity if a
    feature is not a finite number, or if the shapes differ.
    """
    if found_BD.shape != expected_BD.shape or not found_BD.isfinite().all() or not expected_BD.isfinite().all():
        return float("inf")
    found_BD, expected_BD = found_BD.double(), expected_BD.double()
    largest_B = expected_BD.abs().amax(1).clamp_min(torch.finfo(torch.float64).tiny)
    return ((found_BD - expected_BD).abs().amax(1) / largest_B).max().item()
