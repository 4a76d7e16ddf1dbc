"""MixUp: two images are blended, and their labels with the same weight.

Zhang et al., "mixup" (ICLR 2018), equation 1. Blending normalised pixels equals blending pixels, since the
weights sum to 1.
"""

from dataclasses import dataclass

from torch import Tensor

from hardviews.batch import Batch, Mix
from hardviews.methods.method import Method
from hardviews.strategies.mix import Mixing


@dataclass(frozen=True)
class MixUp(Mixing):
    """Blends each online view with a partner's."""

    def refuses(self, method: Method) -> str | None:
        """Refuse a method that predicts parts of a view: a part of a blended image has no source."""
        if method.blends:
            return super().refuses(method)
        return (
            "every patch of a blended image belongs to two images at once, and a patch predicts what the teacher makes "
            "of the one that it comes from. Use CutMix, whose boxes keep to the grid of patches, or DINO."
        )

    def _mix(self, pixels: Tensor, batch: Batch, stream: int, grid: int) -> tuple[Tensor, Mix]:
        mix = Mix(self.partners(batch, stream), self.weights(batch, stream))
        weight = mix.weight.to(pixels, non_blocking=True).view(-1, 1, 1, 1)
        partner_B = mix.partner.to(pixels.device, non_blocking=True)
        return weight * pixels + (1 - weight) * pixels[partner_B], mix
