"""Weights under torchvision's names, for detectors built on its networks.

timm names a ResNet's weights as torchvision does. Those of a vision transformer are renamed. torchvision's attention is
another kernel, so features of transformers differ in the last bits.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm.models.resnet
import timm.models.vision_transformer
import torch
import torchvision.models
from torch import Tensor, nn

from hardviews.export.deployable import fixed_size
from hardviews.export.format import Format, Subject
from hardviews.export.timm import forward
from hardviews.models.described_file import to_text
from hardviews.models.encoder import Encoder, describe

WEIGHTS = "torchvision.safetensors"

# Beginnings of names in a transformer, those of timm first; `blocks.N.` comes before the second half.
_OUTSIDE = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj.": "conv_proj.",
    "norm.": "encoder.ln.",
}
_IN_BLOCK = {
    "norm1.": "ln_1.",
    "norm2.": "ln_2.",
    "attn.qkv.": "self_attention.in_proj_",
    "attn.proj.": "self_attention.out_proj.",
    "mlp.fc1.": "mlp.0.",
    "mlp.fc2.": "mlp.3.",
}


class Torchvision(Format):
    """A safetensors file with torchvision's names, strictly loadable."""

    name = "torchvision"
    bound = 1e-4

    def misfit(self, encoder: Encoder) -> str:
        with torch.device("meta"):
            source: Any = encoder.backbone.build(only_size=encoder.image_size)
            if isinstance(source, timm.models.resnet.ResNet) and encoder.backbone.small_stem:
                return "torchvision has no small stem"
            target = _build(encoder, source)
        if target is None:
            return "torchvision has no such network"
        expected = {key: value.shape for key, value in target.state_dict().items()}
        if {key: value.shape for key, value in renamed(source.state_dict()).items()} != expected:
            return "torchvision's network of that kind has other parts"
        if encoder.backbone.is_transformer and not _computes_alike(source):
            return "torchvision's transformer computes other features"
        return ""

    def write(self, subject: Subject, folder: Path) -> None:
        encoder = subject.encoder
        state = {key: value.contiguous() for key, value in renamed(fixed_size(encoder).state_dict()).items()}
        safetensors.torch.save_file(state, folder / WEIGHTS, metadata={"encoder": to_text(describe(encoder))})

    def features(self, encoder: Encoder, folder: Path, images_BCHW: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            model = _build(encoder, fixed_size(encoder))
        if model is None:
            raise RuntimeError("checked before")
        model.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
        return forward(model.eval(), encoder.normalisation.mean, encoder.normalisation.std, images_BCHW)

    def loading(self, encoder: Encoder, folder: str) -> str:
        if encoder.backbone.is_transformer:
            sizes = _sizes(encoder, fixed_size(encoder))
            words = ", ".join(f"{key}={value}" for key, value in sizes.items())
            call, head = f"VisionTransformer({words})", "heads"
        else:
            call, head = f"{encoder.backbone.name.split('.')[0]}()", "fc"
        return (
            "import torch, torchvision\nfrom safetensors.torch import load_file\n\n"
            f"model = torchvision.models.{call}\n"
            f"model.{head} = torch.nn.Identity()\n"
            f'model.load_state_dict(load_file("{folder}/{WEIGHTS}"))\n'
            "model.eval()\n"
            f"# pixels in [0, 1], minus {encoder.normalisation.mean}, divided by {encoder.normalisation.std}"
        )


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under torchvision's names; names that it does not know stay."""
    return {_name(key): value for key, value in state.items()}


def _name(key: str) -> str:
    before, names, rest = "", _OUTSIDE, key
    if key.startswith("blocks."):
        _, number, rest = key.split(".", 2)
        before, names = f"encoder.layers.encoder_layer_{number}.", _IN_BLOCK
    for old, new in names.items():
        if rest.startswith(old):
            return f"{before}{new}{rest.removeprefix(old)}"
    return key


def _build(encoder: Encoder, source: Any) -> nn.Module | None:
    """Return torchvision's network of random weights for timm's, without a classifier, or None if it has none."""
    name = encoder.backbone.name.split(".")[0]
    if isinstance(source, timm.models.resnet.ResNet) and name in torchvision.models.list_models(torchvision.models):
        resnet: Any = torchvision.models.get_model(name, weights=None)
        resnet.fc = nn.Identity()
        return resnet if isinstance(resnet, torchvision.models.ResNet) else None
    if type(source) is timm.models.vision_transformer.VisionTransformer and len(source.blocks):
        sizes = _sizes(encoder, source)
        if None in sizes.values() or sizes["image_size"] % sizes["patch_size"]:
            return None
        transformer: Any = torchvision.models.VisionTransformer(**sizes)
        transformer.heads = nn.Identity()
        return transformer  # type: ignore[no-any-return]
    return None


def _sizes(encoder: Encoder, source: Any) -> dict[str, Any]:
    """Return the arguments of torchvision's transformer; None for those that timm's network lacks."""
    block = source.blocks[0]
    return {
        "image_size": encoder.image_size,
        "patch_size": source.patch_embed.patch_size[0],
        "num_layers": len(source.blocks),
        "num_heads": getattr(block.attn, "num_heads", None),
        "hidden_dim": source.embed_dim,
        "mlp_dim": getattr(getattr(block.mlp, "fc1", None), "out_features", None),
    }


def _computes_alike(source: Any) -> bool:
    """Return whether the parts without weights equal torchvision's: the pooling, the activation, the normalisation."""
    norms = [module for module in source.modules() if isinstance(module, nn.LayerNorm)]
    return (
        source.global_pool == "token"
        and isinstance(source.blocks[0].mlp.act, nn.GELU)
        and all(norm.eps == 1e-6 for norm in norms)
    )
