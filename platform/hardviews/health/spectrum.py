"""The spectrum of features: singular values as they are, and eigenvalues of their covariance.

Both are read from the smaller of the two Gram matrices in double precision: D x D or N x N.

Shape legend: N samples, D features, K = min(N, D).
"""

import torch
from torch import Tensor


def singular_values(values_ND: Tensor) -> Tensor:
    """Return the singular values (K,) of uncentred features, float64, the largest first.

    A value below about 1e-8 of the largest one is rounding.
    """
    return _eigenvalues(values_ND.double()).sqrt()


def covariance_eigenvalues(values_ND: Tensor) -> Tensor:
    """Return the eigenvalues (K,) of the features' covariance, float64, the largest first.

    The covariance is centred and unbiased, so N must be 2 or more.
    """
    centred_ND = values_ND.double() - values_ND.double().mean(0)
    return _eigenvalues(centred_ND) / (len(values_ND) - 1)


def _eigenvalues(values_ND: Tensor) -> Tensor:
    """Return the eigenvalues (K,) of the smaller Gram matrix; rounding below zero is zero."""
    rows, columns = values_ND.shape
    gram_KK = values_ND.T @ values_ND if columns <= rows else values_ND @ values_ND.T
    values_K: Tensor = torch.linalg.eigvalsh(gram_KK)
    return values_K.clamp(min=0).flip(0)


def entropy_rank(weights_K: Tensor, epsilon: float) -> float:
    """Return the exponential of the entropy of weights that are scaled to the sum 1: how many of them count.

    weights_K: 0 or more. epsilon: is added to each scaled weight. If all weights are zero, the result is 1.
    """
    total = weights_K.sum()
    if not total > 0:
        return 1.0
    shares_K = weights_K / total + epsilon
    return float(torch.exp(-(shares_K * shares_K.log()).sum()))
