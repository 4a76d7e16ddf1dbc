"""Features of a stage before the last one: networks that were trained on a pretext task are often best there.

Stages are defined as in timm, and counted from 1. A ResNet has five: the stem, then the groups conv2 to conv5 of its
paper (He et al. 2016, table 1), so that stage 4 is the "res4" of published tables. A vision transformer has one for
each block.

Shape suffixes: B images, C channels, H rows, W columns, T patches, D features.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.evaluation.features.sources import Embedding
from hardviews.models.encoder import Encoder


def stages_of(network: nn.Module) -> int:
    """Return the number of stages of a network, 0 if it has none that timm numbers."""
    return len(getattr(network, "feature_info", ())) if hasattr(network, "forward_intermediates") else 0


def check_stage(encoder: Encoder, stage: int | None) -> None:
    """Make sure that the network has a stage.

    Raises:
        UserError: it has not; says how many there are.
    """
    if stage is None:
        return
    name, stages = encoder.backbone.name, stages_of(encoder.network)
    if not stages:
        raise UserError(f"Evaluation: {name} has no stages that timm numbers; leave --stage out.")
    if stage > stages:
        raise UserError(
            f"Evaluation: --stage {stage} is given, and {name} has {stages} stages; give 1 to {stages}, or leave it "
            "out for the features of the whole network."
        )


def of_stage(kind: Embedding, stage: int | None) -> Embedding:
    """Return the map to the pooled features of a stage; the same map for None, and for features without a network."""
    if stage is None or kind.encoder is None:
        return kind
    encoder = kind.encoder
    embed = partial(encoder.embed, through=partial(pooled, encoder.network, stage))
    return replace(kind, digest=f"{kind.digest} stage {stage}", embed=embed)


def pooled(network: Any, stage: int, pixels_BCHW: Tensor) -> Tensor:
    """Return the features (B, D) of a stage: the mean over positions, or the class token if the network pools by that.

    A transformer's tokens pass through its last norm, like the tokens of its last block.
    """
    read = partial(
        network.forward_intermediates, pixels_BCHW, [stage - 1], norm=True, stop_early=True, intermediates_only=True
    )
    if getattr(network, "global_pool", "") == "token":
        ((_, prefix_BTD),) = read(return_prefix_tokens=True, output_fmt="NLC")
        token_BD: Tensor = prefix_BTD[:, 0]
        return token_BD
    (map_BCHW,) = read(output_fmt="NCHW")
    features_BD: Tensor = map_BCHW.mean((2, 3))
    return features_BD
