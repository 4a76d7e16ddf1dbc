"""Collapsed dimensions: the share of features that hardly change from image to image.

Shape legend: N samples, D features.
"""

from torch import Tensor

_SHARE = 0.01


def collapsed_dims(values_ND: Tensor) -> float:
    """Return the share of features whose standard deviation is below 1 % of the features' root mean square; N > 1.

    The root mean square is over all samples and features, so the share does not depend on the scale of the features. It
    is 1 if all samples have one representation.
    """
    values_ND = values_ND.double()
    scale = values_ND.square().mean().sqrt()
    if not scale > 0:
        return 1.0
    return float((values_ND.std(0) < _SHARE * scale).double().mean())
