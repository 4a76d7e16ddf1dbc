"""Closed-form few-shot classification: ridge regression to targets of -1 and 1.

The protocol of big_vision's few-shot evaluator (Zhai et al., "A Large-scale Study of Representation Learning with the
Visual Task Adaptation Benchmark", 2019). Features are standardised on the shots. A large constant feature replaces the
bias, which is then hardly penalised. The class of the highest score is predicted.

Shape legend: N shots, M test samples, D features, E = D + 1, L classes, K = min(N, E).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BIAS = 100.0
"""The constant feature; big_vision's."""

PENALTY = 2.0**10
"""The weight of the squared length of the solution; big_vision's."""

_LEAST_STD = 1e-5


def ridge_scores(
    train_ND: Tensor, labels_N: Tensor, test_MD: Tensor, classes: int, penalties: Sequence[float] = (PENALTY,)
) -> dict[float, Tensor]:
    """Return the scores (M, L) of test samples, float64, for each penalty above 0.

    One eigendecomposition of the smaller of the shots' two Gram matrices serves every penalty. All of it is computed on
    the device of the features.
    """
    shots_ND, tests_MD = train_ND.double(), test_MD.double()
    mean_D, std_D = shots_ND.mean(0), shots_ND.std(0, correction=0) + _LEAST_STD
    shots_NE = F.pad((shots_ND - mean_D) / std_D, (0, 1), value=BIAS)
    tests_ME = F.pad((tests_MD - mean_D) / std_D, (0, 1), value=BIAS)
    targets_NL = 2.0 * F.one_hot(labels_N.to(shots_NE.device), classes).double() - 1.0
    if shots_NE.shape[0] >= shots_NE.shape[1]:
        # (X^T X + penalty)^-1 X^T Y
        eigenvalues_K, vectors_EK = torch.linalg.eigh(shots_NE.T @ shots_NE)
        left_MK, right_KL = tests_ME @ vectors_EK, vectors_EK.T @ (shots_NE.T @ targets_NL)
    else:
        # X^T (X X^T + penalty)^-1 Y: the same solution
        eigenvalues_K, vectors_NK = torch.linalg.eigh(shots_NE @ shots_NE.T)
        left_MK, right_KL = tests_ME @ (shots_NE.T @ vectors_NK), vectors_NK.T @ targets_NL
    return {penalty: (left_MK / (eigenvalues_K + penalty)) @ right_KL for penalty in penalties}
