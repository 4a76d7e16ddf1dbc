"""Alignment: how near the features of two views of one image are.

Wang & Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere"
(ICML 2020), equation 1 with alpha = 2.

Shape legend: N images, D features.
"""

from torch import Tensor
from torch.nn.functional import normalize


def alignment(first_ND: Tensor, second_ND: Tensor) -> float:
    """Return the mean squared distance of the unit vectors of two views, from 0 (equal directions) to 4."""
    difference_ND = normalize(first_ND.double(), dim=1) - normalize(second_ND.double(), dim=1)
    return float(difference_ND.square().sum(1).mean())
