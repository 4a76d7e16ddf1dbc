"""Linear support vector machines, one a class, as VISSL trains them on frozen features (Goyal et al. 2019).

scikit-learn's LinearSVC: squared hinge, L2 penalty, dual form, 2000 iterations, images with the class weighted twice,
features scaled to length 1. The cost C is chosen by the average precision in cross-validation.

Shape suffixes: S samples, M test samples, D features, L classes, C costs.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from hardviews.evaluation.average_precision import interpolated_area

COSTS = (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0)
"""VISSL's costs to choose from."""

COST = 1.0
"""The cost if one shot of each class leaves nothing to choose on: scikit-learn's default."""

FOLDS = 3
_ITERATIONS = 2000

Rows = npt.NDArray[np.float64]
Targets = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Plane:
    """The classifier of one class: scores are x @ weight_D + bias."""

    weight_D: Rows
    bias: float


def prepared(values_MD: Tensor) -> Rows:
    """Return features scaled to length 1, in double precision."""
    rows: Rows = F.normalize(values_MD.double(), dim=1).numpy()
    return rows


def fit(rows_SD: Rows, targets_S: Targets, cost: float) -> Plane:
    """Fit the classifier of one class on the samples whose target is 1 or -1; of one kind alone it is zero."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    taken = targets_S != 0
    if len(np.unique(targets_S[taken])) < 2:
        return Plane(np.zeros(rows_SD.shape[1]), 0.0)
    machine = LinearSVC(
        C=cost,
        class_weight={1: 2, -1: 1},
        penalty="l2",
        loss="squared_hinge",
        dual=True,
        max_iter=_ITERATIONS,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the large costs; the protocol stops there
        machine.fit(rows_SD[taken], targets_S[taken])
    return Plane(machine.coef_[0], float(machine.intercept_[0]))


def cross_validated(rows_SD: Rows, targets_S: Targets, places_S: npt.NDArray[np.int64], costs: Sequence[float]) -> Rows:
    """Return the mean average precision of each cost (C,) over folds of samples that were left out.

    `places_S` are the places of each sample among samples of its kind; the folds are these modulo their number, at most
    three and at most the number of samples with the class. Without two of these it is zero.
    """
    folds = min(FOLDS, int((targets_S == 1).sum()), int((targets_S == -1).sum()))
    found_C = np.zeros(len(costs))
    if folds < 2:
        return found_C
    for fold in range(folds):
        kept, tried = places_S % folds != fold, (places_S % folds == fold) & (targets_S != 0)
        for number, cost in enumerate(costs):
            plane = fit(rows_SD[kept], targets_S[kept], cost)
            scores = rows_SD[tried] @ plane.weight_D + plane.bias
            found_C[number] += interpolated_area(scores, np.where(targets_S[tried] == 1, 1, 0).astype(np.int8))
    return found_C / folds


def scores(planes_L: Sequence[Plane], rows_MD: Rows) -> Tensor:
    """Return the scores (M, L) of test samples, float64."""
    weight_DL = np.stack([plane.weight_D for plane in planes_L], 1)
    return torch.from_numpy(rows_MD @ weight_DL + np.array([plane.bias for plane in planes_L]))
