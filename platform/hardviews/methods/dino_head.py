"""DINO's projection head: an MLP down to a bottleneck on the unit sphere, and a last layer to many outputs.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers" (ICCV 2021), section 3.1.

The head returns the bottleneck, not the outputs: a loss over 65536 outputs of many views is made from embeddings and
the last layer's weights without ever holding all outputs (`hardviews.methods.self_distillation`).

Shape legend: F features, D bottleneck, K outputs, N rows.
"""

from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hardviews.full_precision import full_precision


class LastLayer(nn.Module):
    """A linear layer without bias whose weights have length 1, or a learned length, for each output.

    Direction and length are separate parameters, so that averages by name, copies and checkpoints need nothing special.
    """

    def __init__(self, width: int, outputs: int, unit: bool) -> None:
        """Draw directions as `nn.Linear` does; lengths begin at 1."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, width))
        nn.init.kaiming_uniform_(self.weight, a=sqrt(5))
        self.length = None if unit else nn.Parameter(torch.ones(outputs, 1))

    def weights(self) -> Tensor:
        """Return the weights (K, D) that outputs are made with, in full precision."""
        unit_KD = normalize(full_precision(self.weight), dim=1)
        return unit_KD if self.length is None else unit_KD * full_precision(self.length)


class DINOHead(nn.Module):
    """Maps features to unit embeddings; the last layer maps these to outputs if a loss needs them."""

    def __init__(
        self,
        features: int,
        hidden: int,
        bottleneck: int,
        outputs: int,
        *,
        layers: int = 3,
        unit: bool = True,
        batchnorm: bool = False,
    ) -> None:
        """Build an MLP of `layers` layers with GELU between them, and the last layer.

        `unit`: the last layer's weights have length 1. `batchnorm`: there is BatchNorm behind the hidden layers.
        """
        super().__init__()
        widths = [features, *[hidden] * (layers - 1), bottleneck]
        modules: list[nn.Module] = []
        for i, (inside, outside) in enumerate(pairwise(widths)):
            linear = nn.Linear(inside, outside)
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
            modules.append(linear)
            if i < layers - 1:
                modules += [nn.BatchNorm1d(outside), nn.GELU()] if batchnorm else [nn.GELU()]
        self.mlp = nn.Sequential(*modules)
        self.last = LastLayer(bottleneck, outputs, unit)

    def forward(self, features_NF: Tensor) -> Tensor:
        """Map features (N, F) to unit embeddings (N, D)."""
        return normalize(full_precision(self.mlp(features_NF)), dim=1)
