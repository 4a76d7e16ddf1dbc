"""The moving average of trained weights, which is exported in their place.

Tarvainen & Valpola, "Mean teachers" (NeurIPS 2017), section 2; as timm's `ModelEmaV3` in fine-tuning: all numbers of
the state are averaged, BatchNorm's running statistics too, and counters are copied.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage(nn.Module):
    """Copies of named networks, each under its name, that follow them; nothing in the training reads them.

    They begin with the weights of the networks, so a short run with a decay near 1 stays close to its beginning.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay: float) -> None:
        """Begin with the present networks; `decay` is the share of itself that the average keeps in a step, below 1."""
        super().__init__()
        self.decay = decay
        for name, network in networks.items():
            self.add_module(name, deepcopy(network))
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def begin(self, networks: Mapping[str, nn.Module]) -> None:
        """Begin again with the weights of the networks."""
        for own, other in self._pairs(networks):
            own.copy_(other)

    @torch.no_grad()
    def follow(self, networks: Mapping[str, nn.Module]) -> None:
        """Move every number to `decay` of itself and the rest of the network's; copy counters."""
        averaged, trained = [], []
        for own, other in self._pairs(networks):
            if own.is_floating_point():
                averaged.append(own)
                trained.append(other)
            else:
                own.copy_(other)
        get_ema_multi_avg_fn(self.decay)(tuple(averaged), tuple(trained), 0)  # all at once: a few kernels on a GPU

    def _pairs(self, networks: Mapping[str, nn.Module]) -> Iterator[tuple[Tensor, Tensor]]:
        for name, network in networks.items():
            state = network.state_dict()
            for key, own in self.get_submodule(name).state_dict().items():
                yield own, state[key]
