"""A network's view of the parts of an image: its last map of features, and the attention of its class token.

The network and its numbers are not changed: inputs of a layer are read during its pass, and values inside a fused
kernel are computed again from them.

Shape legend: B images, C channels, H height, W width, R rows and K columns of a map, D features, A heads, T tokens.
"""

import math
from typing import Any, NamedTuple

import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn


class Maps(NamedTuple):
    """Features of the parts of images (B, R, K, D), and the attention of the class token to them (B, A, R, K).

    None if the network has no map of more than one part, or no class token with heads of the usual kind.
    """

    features: Tensor | None
    attention: Tensor | None


@torch.no_grad()
def patch_maps(network: nn.Module, pixels_BCHW: Tensor) -> Maps:
    """Return the maps of a network of timm; it is called once, in the mode that it is in."""
    forward_features: Any = getattr(network, "forward_features", None)
    if forward_features is None:
        return Maps(None, None)
    inputs: list[Tensor] = []
    heads = _last_heads(network)
    hook = heads.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) if heads is not None else None
    try:
        made = forward_features(pixels_BCHW)
    finally:
        if hook is not None:
            hook.remove()
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    features = _as_map(made, prefix, int(getattr(network, "num_features", 0)))
    if heads is None or not inputs or features is None:
        return Maps(features, None)
    attention_BAT = class_attention(heads, inputs[0])[:, :, prefix:]
    return Maps(features, attention_BAT.unflatten(2, features.shape[1:3]))


def class_attention(heads: Attention, tokens_BTD: Tensor) -> Tensor:
    """Return the attention of the first token to every token in each head (B, A, T), by the layer's own weights."""
    batch, count, _ = tokens_BTD.shape
    mixed = heads.qkv(tokens_BTD).reshape(batch, count, 3, heads.num_heads, heads.head_dim).permute(2, 0, 3, 1, 4)
    query, key = heads.q_norm(mixed[0][:, :, :1]), heads.k_norm(mixed[1])
    attention_BAT: Tensor = ((query * heads.scale) @ key.transpose(-2, -1)).float().softmax(-1).squeeze(2)
    return attention_BAT


def _last_heads(network: nn.Module) -> Attention | None:
    """Return the last attention of a vision transformer with a class token, None for any other network."""
    if not isinstance(network, VisionTransformer) or not network.has_class_token:
        return None
    heads = getattr(network.blocks[-1], "attn", None)
    return heads if isinstance(heads, Attention) else None


def _as_map(made: Any, prefix: int, width: int) -> Tensor | None:
    """Return the features of a square grid of parts (B, R, K, D), None if there is no such grid."""
    if not isinstance(made, Tensor):
        return None
    if made.ndim == 4:
        found = made.permute(0, 2, 3, 1) if made.shape[1] == width else made
    elif made.ndim == 3:
        side = math.isqrt(made.shape[1] - prefix)
        if side * side != made.shape[1] - prefix:
            return None
        found = made[:, prefix:].unflatten(1, (side, side))
    else:
        return None
    return found if min(found.shape[1:3]) > 1 else None
