"""Spread: the standard deviation of normalised features, as a share of the value for evenly spread ones.

Chen & He, "Exploring Simple Siamese Representation Learning" (CVPR 2021), figure 2. Evenly spread features of length 1
have the standard deviation 1 / sqrt(D) in each of D dimensions; after a collapse it is 0.

Shape legend: N samples, D features.
"""

from torch import Tensor
from torch.nn.functional import normalize


def spread(values_ND: Tensor) -> float:
    """Return the mean standard deviation of features of length 1, times sqrt(D), from 0 to about 1; N > 1."""
    unit_ND = normalize(values_ND.double(), dim=1)
    return float(unit_ND.std(0).mean() * unit_ND.shape[1] ** 0.5)
