"""Names of torchvision's vision transformers as timm has them. The names of its ResNets are equal.

ResNets for CIFAR (kuangliu/pytorch-cifar, HobbitLong/SupContrast) call the layers beside a block its shortcut.
"""

import re

_BLOCK = r"encoder\.layers\.encoder_layer_(\d+)\."
_NAMES = tuple(
    (re.compile(f"^{theirs}"), ours)
    for theirs, ours in (
        (r"class_token$", "cls_token"),
        (r"conv_proj\.", "patch_embed.proj."),
        (r"encoder\.pos_embedding$", "pos_embed"),
        (r"encoder\.ln\.", "norm."),
        (r"heads\.", "head."),
        (r"(layer\d\.\d+)\.shortcut\.", r"\1.downsample."),
        (_BLOCK + r"ln_(\d)\.", r"blocks.\1.norm\2."),
        (_BLOCK + r"self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
        (_BLOCK + r"self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
        (_BLOCK + r"mlp\.(?:0|linear_1)\.", r"blocks.\1.mlp.fc1."),
        (_BLOCK + r"mlp\.(?:3|linear_2)\.", r"blocks.\1.mlp.fc2."),
    )
)


def as_timm(name: str) -> str:
    """Return timm's name of a weight that torchvision names so; other names are returned as they are."""
    for pattern, ours in _NAMES:
        changed, count = pattern.subn(ours, name)
        if count:
            return changed
    return name
