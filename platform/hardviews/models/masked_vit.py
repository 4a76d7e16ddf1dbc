"""A timm vision transformer whose masked patches are replaced by a learned token, and that returns its patches.

The network is not changed. In its own forward pass the embeddings of masked patches are replaced before positions are
added, as in BEiT (Bao et al., ICLR 2022) and iBOT (Zhou et al., ICLR 2022), and the normalised tokens are read. Without
a masked patch the features equal the network's own, bit for bit.

Shape legend: B samples, C channels, H height, W width, D width of a token, N patches.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from hardviews.errors import UserError


class Tokens(NamedTuple):
    """The class token's features (B, D) and the patches' features (B, N, D), row by row of the grid."""

    features: Tensor
    patches: Tensor


def tokens(
    network: nn.Module, pixels_BCHW: Tensor, token_D: Tensor | None = None, mask_BN: Tensor | None = None
) -> Tokens:
    """Return the network's tokens of images whose masked patches (mask true, or not 0) are replaced."""
    assert isinstance(network, VisionTransformer)
    found: list[Tensor] = []
    hooks = [network.norm.register_forward_hook(lambda module, inputs, output: found.append(output))]
    if token_D is not None and mask_BN is not None:
        hooks.append(network.patch_embed.register_forward_hook(_covered(token_D, mask_BN)))
    try:
        features_BD: Tensor = network(pixels_BCHW)
    finally:
        for hook in hooks:
            hook.remove()
    return Tokens(features_BD, found[0][:, network.num_prefix_tokens :])


def _covered(token_D: Tensor, mask_BN: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def cover(module: nn.Module, inputs: Any, patches: Tensor) -> Tensor:
        # (B, H, W, D) from a network that takes any size, else (B, N, D).
        masked = mask_BN.bool().reshape(*patches.shape[:-1], 1)
        return torch.where(masked, token_D.to(patches.dtype), patches)

    return cover


def patch_size(network: nn.Module, method: str) -> int:
    """Return the side of a patch in pixels.

    Raises:
        UserError: the network is not a vision transformer whose patches can be masked.
    """
    wanted = f"{method} masks patches of a plain timm vision transformer that has a class token"
    advice = "choose e.g. vit_small_patch16_224 (--backbone.name)."
    if not isinstance(network, VisionTransformer) or not isinstance(network.patch_embed, PatchEmbed):
        raise UserError(f"{wanted}; this backbone is a {type(network).__name__}: {advice}")
    if not network.has_class_token or network.global_pool != "token":
        raise UserError(f"{wanted} as its features; this one pools by {network.global_pool!r}: {advice}")
    if not isinstance(network.patch_drop, nn.Identity):
        raise UserError(f"{wanted}; this one drops patches at random, so masks would not fit: set patch_drop_rate=0.")
    height, width = network.patch_embed.patch_size
    if height != width:
        raise UserError(f"{wanted} and square patches; this one's are {height} x {width} pixels: {advice}")
    return int(height)


def check_sizes(network: nn.Module, sizes: dict[str, int], method: str) -> None:
    """Refuse sizes of views in pixels, by name, that a vision transformer cannot look at."""
    assert isinstance(network, VisionTransformer)
    side, built = patch_size(network, method), network.patch_embed.img_size
    for name, size in sizes.items():
        if size % side:
            raise UserError(
                f"{method} lays masks on a grid of patches of {side} pixels, but its {name} views have {size} pixels a "
                f"side: choose a multiple of {side}."
            )
        if not network.dynamic_img_size and built is not None and tuple(built) != (size, size):
            raise UserError(
                f"{method} has {name} views of {size} pixels, but the network was built for {built[0]} alone: build it "
                "with dynamic_img_size=True, as `Backbone` does."
            )
