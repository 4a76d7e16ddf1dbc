"""The encoder as one module for tracing: uint8 images of one size in, features out.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

from typing import Any

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.models.encoder import Encoder


class Deployable(nn.Module):
    """Maps uint8 images (B, 3, H, W) to float32 features (B, D); the normalisation is inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.network = fixed_size(encoder)
        self.register_buffer("mean", torch.tensor(encoder.normalisation.mean).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(encoder.normalisation.std).reshape(3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        features_BD: Tensor = self.network((images.to(torch.float32) / 255 - self.mean) / self.std)
        return features_BD


def fixed_size(encoder: Encoder) -> nn.Module:
    """Return the encoder's network for images of its own size alone.

    A transformer that takes images of any size resamples its position embeddings in every pass. This would stay in a
    traced graph, where it costs time, and some runtimes lack it. So they are resampled here, once.

    Raises:
        UserError: the network cannot be laid out for one size.
    """
    if not encoder.backbone.is_transformer:
        return encoder.network
    source: Any = encoder.network
    # The random weights of the new network are replaced; the caller's random numbers must not move.
    with torch.random.fork_rng(devices=[]):
        network: Any = encoder.backbone.build(only_size=encoder.image_size)
    state = dict(source.state_dict())
    grid = network.patch_embed.grid_size
    try:
        if "pos_embed" in state and grid != source.patch_embed.grid_size:
            prefix = 0 if getattr(source, "no_embed_class", False) else source.num_prefix_tokens
            state["pos_embed"] = resample_abs_pos_embed(
                state["pos_embed"], list(grid), list(source.patch_embed.grid_size), num_prefix_tokens=prefix
            )
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"{encoder.backbone.name} cannot be laid out for images of {encoder.image_size} pixels alone, as this "
            f"format needs it ({str(error).splitlines()[0]}). Choose --format timm."
        ) from error
    return network.eval()  # type: ignore[no-any-return]
