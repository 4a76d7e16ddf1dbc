"""At which sizes in pixels a network can look at a view."""

import torch
from timm.layers import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.func import functional_call


def why_not(network: nn.Module, size: int, setting: str = "") -> str | None:
    """Return why a network cannot take square views of `size` pixels, and what to do; None where it can.

    `setting` says, with {} for the size in pixels, how to give a network the views that it was built for.
    """
    for module in network.modules():
        # Without a size of its own it looks at whatever comes, and leaves over what fills no patch.
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


def own_size(network: nn.Module) -> int | None:
    """Return the size that timm says a network is made for; None where it says none."""
    shape = (getattr(network, "pretrained_cfg", None) or {}).get("input_size")
    return None if shape is None else int(shape[-1])


def _error(network: nn.Module, size: int) -> Exception | None:
    """Return what a pass without numbers raises: it draws nothing and moves no statistics."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        functional_call(
            network,
            {name: tensor.detach().to("meta") for name, tensor in tensors.items()},
            torch.empty(2, 3, size, size, device="meta"),
        )
    # Whatever a network of whatever origin does not bear.
    except Exception as error:
        return error
    finally:
        for module, mode in modes.items():
            module.training = mode
    return None
