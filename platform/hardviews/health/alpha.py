"""alpha-ReQ: how fast the spectrum of features decays.

Agrawal et al., "alpha-ReQ: Assessing Representation Quality in Self-Supervised Learning by Measuring Eigenspectrum
Decay" (NeurIPS 2022); ranks and weights as in their library reptrix.

Shape legend: D features, K eigenvalues, R ranks.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hardviews.health.spectrum import covariance_eigenvalues

_FIRST, _LAST = 11, 100  # ranks that the line is fitted to
_LEAST = 3  # ranks: two always lie on a line
_ROUNDING = 1e-12  # share of the largest eigenvalue; smaller ones are not fitted


@dataclass(frozen=True)
class Decay:
    """The power law of a spectrum: eigenvalue k is proportional to k^-alpha.

    Attributes:
        alpha: values near 1 are considered good; a large one means that few directions carry everything.
        r2: share of the variance that the line explains; near 1 if the spectrum is a power law.
    """

    alpha: float
    r2: float


def decay(values_ND: Tensor) -> Decay | None:
    """Return the decay of the features' covariance, None if fewer than three ranks can be fitted."""
    return decay_of(covariance_eigenvalues(values_ND))


def decay_of(eigenvalues_K: Tensor) -> Decay | None:
    """Return the decay of eigenvalues, the largest first: least squares of logarithms, weighted by 1 / rank.

    The fit takes ranks 11 to 100, if they exist and are above the rounding error.
    """
    kept_R = eigenvalues_K[:_LAST].double()
    known = int((kept_R > _ROUNDING * eigenvalues_K[0]).sum()) if len(eigenvalues_K) else 0
    kept_R = kept_R[_FIRST - 1 : known]
    if len(kept_R) < _LEAST:
        return None
    rank_R = torch.arange(_FIRST, _FIRST + len(kept_R), dtype=torch.float64, device=kept_R.device)
    weight_R = (1 / rank_R) / (1 / rank_R).sum()
    x_R, y_R = rank_R.log(), kept_R.log()
    x_R, y_R = x_R - (weight_R * x_R).sum(), y_R - (weight_R * y_R).sum()
    slope = float((weight_R * x_R * y_R).sum() / (weight_R * x_R * x_R).sum())
    total = float((weight_R * y_R * y_R).sum())
    left = float((weight_R * (y_R - slope * x_R) ** 2).sum())
    # A flat spectrum has nothing to explain.
    r2 = 1 - left / total if total > 0 else math.nan
    return Decay(-slope, r2)
