"""Steps of an attack inside its bound: FGSM (Goodfellow et al. 2015, section 4) and PGD (Madry et al. 2018, eq. 1)."""

import torch
from torch import Tensor

from hardviews.views.augmentation import Normalisation


def bounded(pixels: Tensor, clean: Tensor, epsilon: float, normalisation: Normalisation) -> Tensor:
    """Return normalised pixels (B, 3, H, W) moved into the bound around clean ones, and into the range of pixels."""
    radius = normalisation.radius(epsilon, clean)
    low = torch.maximum(clean - radius, normalisation.low(clean))
    high = torch.minimum(clean + radius, normalisation.high(clean))
    return torch.minimum(torch.maximum(pixels, low), high)


def ascended(
    pixels: Tensor, grad: Tensor, clean: Tensor, step_size: float, epsilon: float, normalisation: Normalisation
) -> Tensor:
    """Return normalised pixels (B, 3, H, W) after one signed step up the loss, inside the bound."""
    moved = pixels + normalisation.radius(step_size, pixels) * grad.sign()
    return bounded(moved, clean, epsilon, normalisation)


def step_size_of(epsilon: float, steps: int, step_size: float | None) -> float:
    """Return the size of a step: by default the bound for one step, and its share for several, but at least a level."""
    if step_size is not None:
        return step_size
    return epsilon if steps == 1 else max(epsilon / steps, 1 / 255)
