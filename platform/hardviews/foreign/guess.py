"""Which network the weights are of, by the shapes of its layers."""

import re
from collections.abc import Mapping

import timm
from torch import Tensor

from hardviews.models.backbones import Backbone

# By blocks of each stage, and whether blocks are bottlenecks of three layers.
_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
# By the shape of the 3 x 3 layer in the first bottleneck: its width, and its width in a group.
_WIDER = {
    ("resnet50", 128, 128): "wide_resnet50_2",
    ("resnet101", 128, 128): "wide_resnet101_2",
    ("resnet50", 128, 4): "resnext50_32x4d",
    ("resnet101", 256, 8): "resnext101_32x8d",
}
# By width and number of blocks.
_TRANSFORMERS = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large"}
_USUAL_PATCH = 16
_SMALL_STEM = (64, 3, 3, 3)


def guess(weights: Mapping[str, Tensor]) -> Backbone | None:
    """Return the network that weights under timm's names are of, None if it is not one that shapes determine."""
    return _transformer(weights) if "patch_embed.proj.weight" in weights else _resnet(weights)


def _resnet(weights: Mapping[str, Tensor]) -> Backbone | None:
    first, inner = weights.get("conv1.weight"), weights.get("layer1.0.conv2.weight")
    if first is None or inner is None or tuple(first.shape) not in ((64, 3, 7, 7), _SMALL_STEM):
        return None
    depths = tuple(_count(weights, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    name = _RESNETS.get((depths, "layer1.0.conv3.weight" in weights), "")
    if tuple(inner.shape[:2]) != (64, 64):
        name = _WIDER.get((name, *inner.shape[:2]), "")
    # A deep stem and attention between channels have further weights, which the comparison with the network finds.
    return Backbone(name, small_stem=has_small_stem(weights)) if name else None


def has_small_stem(weights: Mapping[str, Tensor]) -> bool:
    """Return whether weights begin with the first layer of a ResNet for small images.

    Stride and pooling leave no trace in a file: such a layer is taken for one that keeps the resolution, without
    pooling behind it (SimCLR, appendix B.9), as codes for CIFAR have it.
    """
    first = weights.get("conv1.weight")
    return first is not None and tuple(first.shape) == _SMALL_STEM


def _transformer(weights: Mapping[str, Tensor]) -> Backbone | None:
    width, channels, patch, other = weights["patch_embed.proj.weight"].shape
    size = _TRANSFORMERS.get((width, _count(weights, r"blocks\.(\d+)\.")))
    plain = "cls_token" in weights and "blocks.0.ls1.gamma" not in weights and "blocks.0.attn.qkv.weight" in weights
    if size is None or not plain or channels != 3 or patch != other:
        return None
    name = f"vit_{size}_patch{patch}_224"
    if timm.is_model(name):
        return Backbone(name)
    return Backbone(f"vit_{size}_patch{_USUAL_PATCH}_224", patch_size=patch)


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for name in weights if (found := re.match(pattern, name))})
