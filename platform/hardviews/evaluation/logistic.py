"""Logistic regression with an L2 penalty, solved to the optimum (Kornblith et al. 2019, appendix A).

It is multinomial. If images may have several classes, it is one regression for each class against the rest, on the
images that are not ignored for it. Minimises the mean cross-entropy + penalty / 2 * |weight|^2; scikit-learn's C is
1 / (penalty * K). The problem is convex, so neither a seed nor the start matters.

Shape suffixes: N training samples, K those that are fitted, B a tile of them, D features, L classes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from hardviews.data.index import IGNORED, PRESENT
from hardviews.elastic.worker import advanced
from hardviews.evaluation.features import Features
from hardviews.evaluation.sweep import Classifier, Standard
from hardviews.progress import progress
from hardviews.world import World

_TILE = 4096  # rows that are held in double precision at once
_CHAIN = 5  # penalties that are solved one after the other, each from the solution of the one before
_KEPT = 2**29  # bytes of features that are kept in double precision; more are converted tile by tile
_MOST = 1000  # iterations
_EXACT = 1e-4  # by which a weight may differ from the optimum: the gradient divided by the penalty bounds it


def solve(
    penalties: Sequence[float],
    train: Features,
    rows_K: Tensor,
    classes: int,
    standard: Standard,
    world: World,
    title: str = "logistic regression",
) -> dict[int, Classifier]:
    """Solve for some penalties on some rows; return this rank's share of the classifiers by their numbers.

    Penalties are solved in chains of five, the largest first. A rank takes whole chains: the chains, and so the
    results, do not depend on the number of ranks.
    """
    order = sorted(range(len(penalties)), key=lambda number: -penalties[number])
    chains = [order[start : start + _CHAIN] for start in range(0, len(order), _CHAIN)]
    mine = [number for chain in chains[world.rank :: world.size] for number in [-1, *chain]]
    problem = _Problem(train, rows_K, classes, standard, world.device)
    found: dict[int, Classifier] = {}
    start_P = problem.zeros()
    for number in progress(mine, len(mine), title, show=world.leads):
        if number < 0:  # a chain begins
            start_P = problem.zeros()
            continue
        start_P = problem.solve(penalties[number], start_P)
        weight_DL, bias_L = problem.unpacked(torch.from_numpy(start_P.copy()))
        found[number] = Classifier(weight_DL, bias_L, standard)
    return found


class _Problem:
    """The objective of one training set and its gradient, for scipy."""

    def __init__(self, train: Features, rows_K: Tensor, classes: int, standard: Standard, device: torch.device) -> None:
        self._train, self._rows_K, self._standard, self._device = train, rows_K, standard, device
        self._width, self._classes = train.values_ND.shape[1], classes
        kept = 8 * len(rows_K) * self._width <= _KEPT
        self._kept = list(self._converted()) if kept else None

    def zeros(self) -> npt.NDArray[np.float64]:
        return np.zeros((self._width + 1) * self._classes)

    def unpacked(self, parameters_P: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight (D, L) and the bias (L,)."""
        both = parameters_P.reshape(self._width + 1, self._classes)
        return both[:-1], both[-1]

    def solve(self, penalty: float, start_P: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        options = {
            "maxiter": _MOST,
            "maxfun": 2 * _MOST,
            "gtol": min(1e-6, _EXACT * penalty),
            "ftol": 1e-15,
            "maxcor": 20,
        }
        found = minimize(self._value, start_P, args=(penalty,), jac=True, method="L-BFGS-B", options=options)
        solution: npt.NDArray[np.float64] = found.x
        return solution

    def _value(self, parameters_P: npt.NDArray[np.float64], penalty: float) -> tuple[float, Any]:
        advanced()
        weight_DL, bias_L = (part.to(self._device) for part in self.unpacked(torch.from_numpy(parameters_P)))
        gradient_DL, gradient_L = penalty * weight_DL, torch.zeros_like(bias_L)
        value = penalty / 2 * weight_DL.square().sum()
        loss = _multinomial if self._train.sets_NL is None else _each_against_rest
        for values_BD, truth in self._kept or self._converted():
            loss_of_tile, slope_BL = loss(torch.addmm(bias_L, values_BD, weight_DL), truth)
            value = value + loss_of_tile / len(self._rows_K)
            slope_BL /= len(self._rows_K)
            gradient_DL = gradient_DL.addmm_(values_BD.T, slope_BL)
            gradient_L += slope_BL.sum(0)
        return float(value), torch.cat((gradient_DL, gradient_L[None])).reshape(-1).cpu().numpy()

    def _converted(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features, standardised and in double precision, and labels or label sets in tiles."""
        truth = self._train.labels_N if self._train.sets_NL is None else self._train.sets_NL
        for rows_B in self._rows_K.split(_TILE):
            values_BD = self._standard(self._train.values_ND[rows_B].to(self._device)).double()
            yield values_BD, truth[rows_B].to(self._device)


def _multinomial(scores_BL: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropies, and its derivative by the scores."""
    slope_BL = scores_BL.softmax(1)
    slope_BL[torch.arange(len(labels_B), device=scores_BL.device), labels_B] -= 1
    return F.cross_entropy(scores_BL, labels_B, reduction="sum"), slope_BL


def _each_against_rest(scores_BL: Tensor, sets_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the binary cross-entropies of the classes that are not ignored, and its derivative."""
    judged_BL, present_BL = sets_BL != IGNORED, (sets_BL == PRESENT).double()
    losses_BL = F.softplus(scores_BL) - present_BL * scores_BL
    return (losses_BL * judged_BL).sum(), (scores_BL.sigmoid() - present_BL) * judged_BL
