"""The sizes in pixels of views that a network can take."""

import math
from typing import Any

import torch
from timm.layers import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.func import functional_call

_CELLS, _PATCHES = 2, 4  # least number a side that is enough to compare: of a last map, and of a vision transformer


def why_not(network: nn.Module, size: int, setting: str = "") -> str | None:
    """Return why a network cannot take square views of `size` pixels, and the remedy; None if it can.

    `setting` is the setting of the size of views, with {} for the number of pixels.
    """
    for module in network.modules():
        # Without a size of its own it accepts any size, and drops pixels that do not fill a patch.
        if not isinstance(module, PatchEmbed) or module.img_size is None:
            continue
        if module.strict_img_size and tuple(module.img_size) != (size, size):
            own = module.img_size[0]
            if any(isinstance(part, VisionTransformer | Eva) for part in network.modules()):
                advice = "build it with dynamic_img_size=True, as `Backbone` does."
            else:
                advice = f"give it those{setting.format(own)}, or choose another network."
            return f"the network was built for views of {own} pixels alone: {advice}"
        height, width = module.patch_size
        if (size % height or size % width) and not module.dynamic_img_pad:
            return f"the network cuts a view into patches of {height} pixels: choose a multiple of {height}."
    return None


def fails(network: nn.Module, size: int, own: int) -> str | None:
    """Return what stops a network, which takes views of its `own` size, at those of `size` pixels; None: nothing.

    Found out by a pass without numbers. A network that cannot be asked so is not judged.
    """
    error = _error(network, size)
    if error is None or _error(network, own) is not None:
        return None
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


def too_coarse(network: nn.Module, size: int, own: int) -> str | None:
    """Return why views of `size` pixels leave too little to compare, and a better size; None if they leave enough.

    `own`: the size at which views are trained on.

    This was measured on small networks. A ResNet whose last map has one pixel ranks views little better than their
    colours do. With a map of 2x2 it keeps most of the ranking at full size. A transformer of 16 patches keeps nearly
    all of it.
    """
    patch = patch_side(network)
    if patch is not None:
        tokens = (size // patch) ** 2
        if tokens >= _PATCHES**2:
            return None
        return f"the network sees {tokens} patches of such a view. {_better(_PATCHES * patch, own)}"
    stages = getattr(network, "feature_info", None)
    if isinstance(stages, list) and stages and isinstance(stages[-1], dict) and "reduction" in stages[-1]:
        stride = int(stages[-1]["reduction"])
        if size <= stride:
            return f"the network's last map has one pixel of such a view. {_better(stride + stride // 2, own)}"
    return None


def _better(size: int, own: int) -> str:
    if size < own:
        return f"Choose {size} or more."
    return f"Views of {own} pixels are too small to be scored at a lower resolution: leave size out."


def cheap_size(network: nn.Module, own: int) -> int:
    """Return the resolution for cheap scoring of views of `own` pixels.

    The smallest one that leaves a convolutional network a last map of two by two cells, or a vision transformer four
    by four patches: 64 pixels for ResNet-50 and ViT-S/16. With a single cell the choice is nearly by chance.
    """
    patch = patch_side(network)
    if patch is not None:
        return _PATCHES * patch
    features: Any = getattr(network, "forward_features", None)
    with torch.no_grad():
        cells = own // 32 if features is None else int(features(torch.empty(2, 3, own, own, device="meta")).shape[-1])
    return _CELLS * math.ceil(own / max(1, cells))


def patch_side(network: nn.Module) -> int | None:
    """Return the side of a transformer's patch in pixels; None if the network cuts none."""
    return next((int(m.patch_size[0]) for m in network.modules() if isinstance(m, PatchEmbed)), None)


def own_size(network: nn.Module) -> int | None:
    """Return the size that timm says a network is made for; None where it says none."""
    shape = (getattr(network, "pretrained_cfg", None) or {}).get("input_size")
    return None if shape is None else int(shape[-1])


def run_without_numbers(network: nn.Module, size: int, views: int = 2) -> None:
    """Pass views of `size` pixels through a network on the meta device: it draws nothing and moves no statistics."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        functional_call(
            network,
            {name: tensor.detach().to("meta") for name, tensor in tensors.items()},
            torch.empty(views, 3, size, size, device="meta"),
        )
    finally:
        for module, mode in modes.items():
            module.training = mode


def _error(network: nn.Module, size: int) -> Exception | None:
    """Return the exception of a pass without numbers; None if there is none."""
    try:
        run_without_numbers(network, size)
    # Whatever a network of whatever origin does not bear.
    except Exception as error:
        return error
    return None
