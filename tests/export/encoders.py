"""Encoders for the tests of exports: random weights, but statistics and scales that a wrong export would miss."""

from pathlib import Path
from typing import Any

import torch

from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder, save
from hardviews.views.augmentation import Normalisation

NORMALISATION = Normalisation((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
PROVENANCE = {"run_id": "0" * 32, "samples": 640, "recipe": "digits"}


def make(name: str, side: int, provenance: dict[str, Any] = PROVENANCE, seed: int = 0, **options: Any) -> Encoder:
    """Return an encoder none of whose weights has its value of the beginning, zero or one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(Backbone(name, **options), NORMALISATION, None, side, provenance).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    for key, value in encoder.network.state_dict().items():
        if value.dtype.is_floating_point and value.dim() == 1:  # norms and biases
            noise = torch.rand(value.shape, generator=generator)
            value.add_(noise if "var" in key else 0.2 * (noise - 0.5))
    return encoder


def saved(encoder: Encoder, folder: Path) -> str:
    """Write an encoder as a run would; return its folder."""
    save(encoder, folder / "encoder")
    return str(folder)
