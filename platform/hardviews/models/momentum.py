"""The momentum encoder: a slowly moving average of the network being trained, which makes the targets.

He et al., "Momentum Contrast" (CVPR 2020), equation 2; the mean teacher of Tarvainen & Valpola (2017).
"""

from collections.abc import Mapping
from copy import deepcopy
from math import cos, pi

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from hardviews.models.noise import noisy_layers


class MomentumEncoder(nn.Module):
    """A copy of named modules, each under its name, that gets no gradient and follows them.

    BatchNorm trains on its own batches and keeps its own running statistics; dropout and stochastic depth are off.
    It never sees hard views, so it gets no adversarial BatchNorm branch.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, deepcopy(part))
        self.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "MomentumEncoder":
        """Set the mode of all layers but the noisy ones."""
        super().train(mode)
        for layer in noisy_layers(self):
            layer.training = False
        return self

    @torch.no_grad()
    def copy(self, parts: Mapping[str, nn.Module]) -> None:
        """Copy every weight and every statistic of the online modules, by name."""
        for part, module in parts.items():
            online = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            own = self.get_submodule(part)
            for name, tensor in (*own.named_parameters(), *own.named_buffers()):
                tensor.copy_(online[name])

    @torch.no_grad()
    def follow(self, parts: Mapping[str, nn.Module], momentum: float) -> None:
        """Move every weight to `momentum` of itself and the rest of the online weight of the same name.

        Weights are matched by name, since the online side may have more: an adversarial BatchNorm branch.
        """
        own, others = [], []
        for part, module in parts.items():
            online = dict(module.named_parameters())
            for name, weight in self.get_submodule(part).named_parameters():
                own.append(weight)
                others.append(online[name].detach().to(weight))
        get_ema_multi_avg_fn(momentum)(tuple(own), tuple(others), 0)  # all at once: a few kernels on a GPU


def rising_momentum(base: float, fraction: float) -> float:
    """Return the momentum after a fraction of the training: it rises from `base` to 1 on a cosine.

    Grill et al., "Bootstrap Your Own Latent" (NeurIPS 2020), section 3.3.
    """
    return 1 - (1 - base) * (cos(pi * fraction) + 1) / 2
