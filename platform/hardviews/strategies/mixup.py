"""MixUp: two images are blended, and their labels with the same weight.

Zhang et al., "mixup" (ICLR 2018), equation 1. Blending normalised pixels equals blending pixels, since the
weights sum to 1.
"""

from dataclasses import dataclass

from torch import Tensor

from hardviews.batch import Batch, Mix
from hardviews.strategies.mix import Mixing


@dataclass(frozen=True)
class MixUp(Mixing):
    """Blends each online view with a partner's."""

    def _mix(self, pixels: Tensor, batch: Batch, stream: int, grid: int) -> tuple[Tensor, Mix]:
        mix = Mix(self.partners(batch, stream), self.weights(batch, stream))
        weight = mix.weight.to(pixels).view(-1, 1, 1, 1)
        return weight * pixels + (1 - weight) * pixels[mix.partner.to(pixels.device)], mix
