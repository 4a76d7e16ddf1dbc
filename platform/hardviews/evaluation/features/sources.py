"""The kinds of features that an evaluation compares: of the encoder, of an untrained one, of the pixels themselves.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hardviews.models.encoder import Encoder

Source = Literal["pretrained", "untrained", "pixels"]
# Raw pixels are compared at this side at most: 3072 numbers an image.
_PIXELS_SIDE = 32


@dataclass(frozen=True)
class Embedding:
    """A map of uint8 images (B, 3, H, W) to features (B, D).

    Attributes:
        digest: identifies the map; two maps of equal digests give equal features on one kind of device.
        encoder: the network behind it, if there is one.
    """

    source: Source
    digest: str
    embed: Callable[[Tensor], Tensor]
    encoder: Encoder | None = None


def embedding(source: Source, encoder: Encoder, seed: int = 0) -> Embedding:
    """Return the map of a kind of features.

    pretrained: the encoder; untrained: its architecture with random weights drawn from `seed`; pixels: the
    images themselves, made small.
    """
    if source == "pixels":
        return Embedding(source, f"pixels {_PIXELS_SIDE}", raw_pixels)
    if source == "untrained":
        device = next(encoder.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(
                encoder.backbone,
                encoder.normalisation,
                None,
                encoder.image_size,
                interpolation=encoder.interpolation,
            )
        encoder = encoder.to(device).to(memory_format=torch.channels_last).eval()
    return Embedding(source, encoder.digest, encoder.embed, encoder)


def raw_pixels(images_BCHW: Tensor) -> Tensor:
    """Flatten uint8 images (B, C, H, W) to floats in [0, 1], at 32 x 32 pixels at most."""
    pixels_BCHW = images_BCHW.float() / 255
    if pixels_BCHW.shape[-1] > _PIXELS_SIDE:
        pixels_BCHW = F.interpolate(pixels_BCHW, (_PIXELS_SIDE, _PIXELS_SIDE), mode="area")
    return pixels_BCHW.flatten(1)
