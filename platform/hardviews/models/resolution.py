"""At which sizes in pixels a network can look at a view."""

from timm.layers import PatchEmbed
from torch import nn


def why_not(network: nn.Module, size: int) -> str | None:
    """Return why a network cannot take square views of `size` pixels, and what to do; None where it can."""
    for module in network.modules():
        if not isinstance(module, PatchEmbed):
            continue
        height, width = module.patch_size
        if (size % height or size % width) and not module.dynamic_img_pad:
            return f"the network cuts a view into patches of {height} pixels: choose a multiple of {height}."
        if module.strict_img_size and module.img_size is not None and tuple(module.img_size) != (size, size):
            return (
                f"the network was built for views of {module.img_size[0]} pixels alone: build it with "
                "dynamic_img_size=True, as `Backbone` does."
            )
    return None
