"""The features that heads of a published protocol read: one pass of the encoder gives all of them, side by side.

Shape suffixes: B images, D features of a token, S the features of all readings side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hardviews.evaluation.features.sources import Embedding
from hardviews.evaluation.linear_protocol import WIDE, LinearProtocol, Reading
from hardviews.models.encoder import Encoder


@dataclass(frozen=True)
class Readings:
    """The readings of a protocol for one network.

    Attributes:
        readings: the tamest first.
        pooled: there is one reading, of the encoder's own features.
    """

    readings: tuple[Reading, ...]
    pooled: bool

    def columns(self, reading: Reading, width: int) -> slice:
        """Return the columns of a reading among all; width: S."""
        if self.pooled:
            return slice(0, width)
        blocks, patches = _extent(self.readings)
        token = width // (blocks + patches)
        return slice((blocks - reading.blocks) * token, (blocks + reading.patches) * token)

    def embedding(self, kind: Embedding) -> Embedding:
        """Return the map of images to features (B, S): class tokens of the last blocks, then the mean patch token."""
        if self.pooled or kind.encoder is None:
            return kind
        encoder, (blocks, patches) = kind.encoder, _extent(self.readings)
        network: Any = encoder.network

        def tokens(pixels_BCHW: Tensor) -> Tensor:
            layers = network.forward_intermediates(
                pixels_BCHW, blocks, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
            )
            parts = [prefix[:, 0] for _, prefix in layers]
            if patches:
                parts.append(layers[-1][0].mean(1))
            return torch.cat(parts, dim=1)

        digest = f"{kind.digest} class tokens of {blocks} blocks{', mean patch token' if patches else ''}"
        return replace(kind, digest=digest, embed=lambda images_BCHW: encoder.embed(images_BCHW, tokens))


def readings_of(protocol: LinearProtocol, kind: Embedding) -> Readings:
    """Return the readings of a protocol for a kind of features.

    A network without a class token (a ResNet), and pixels, have the encoder's own features alone.
    """
    encoder = kind.encoder
    wanted = protocol.readings
    if encoder is not None and encoder.num_features >= WIDE and protocol.wide_readings:
        wanted = protocol.wide_readings
    if encoder is None or not has_class_token(encoder) or not any(reading.blocks for reading in wanted):
        return Readings((Reading(),), True)
    network: Any = encoder.network
    cut = {replace(reading, blocks=min(reading.blocks, len(network.blocks))) for reading in wanted}
    return Readings(tuple(sorted(cut, key=lambda reading: (reading.blocks, reading.patches))), False)


def has_class_token(encoder: Encoder) -> bool:
    """Return whether the network is a transformer with a class token, whose blocks can be read."""
    network: Any = encoder.network
    return getattr(network, "cls_token", None) is not None and hasattr(network, "forward_intermediates")


def _extent(readings: Sequence[Reading]) -> tuple[int, bool]:
    """Return how many last blocks all readings together need, and whether one needs the patches."""
    return max(reading.blocks for reading in readings), any(reading.patches for reading in readings)
