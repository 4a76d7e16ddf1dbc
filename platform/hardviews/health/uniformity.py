"""Uniformity: how evenly features spread over the unit sphere.

Wang & Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere"
(ICML 2020), equation 2 with t = 2.

Shape legend: N samples, D features, B a part of the samples.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

_T = 2.0
_PART = 1024  # rows of the matrix of distances that are held at once


def uniformity(values_ND: Tensor) -> float:
    """Return the logarithm of the mean of exp(-2 |x - y|^2) over all pairs of different samples; N is 2 or more.

    It is 0 if all directions are one, and about -4 if directions are random and D is large. The lower, the more even.
    """
    unit_ND = normalize(values_ND.double(), dim=1)
    samples = len(unit_ND)
    total = unit_ND.new_zeros(())
    for first in range(0, samples, _PART):
        cosine_BN = unit_ND[first : first + _PART] @ unit_ND.T
        closeness_BN = torch.exp(-_T * (2 - 2 * cosine_BN).clamp(min=0))
        closeness_BN.diagonal(first).zero_()  # a sample and itself are no pair
        total += closeness_BN.sum()
    return math.log(max(float(total), 1e-300) / (samples * (samples - 1)))
