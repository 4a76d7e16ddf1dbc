"""Logistic regression with an L2 penalty, solved to the optimum (Kornblith et al. 2019, appendix A).

It is multinomial. If images may have several classes, it is one regression for each class against the rest, on the
images that are not ignored for it. Minimises the mean cross-entropy + penalty / 2 * |weight|^2; scikit-learn's C is
1 / (penalty * K). The problem is convex, so neither a seed nor the start matters.

Shape suffixes: N training samples, K those that are fitted, B a tile of them, D features, R axes,
L classes, P parameters: weights and biases.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor

from hardviews.data.index import IGNORED, PRESENT
from hardviews.elastic.worker import advanced
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.probes.sweep import Classifier, Standard
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
    slope: float = 0.0,
) -> dict[int, Classifier]:
    """Solve for some penalties on some rows; return this rank's share of the classifiers by their numbers.

    A gradient that is no longer than `slope` is enough; 0 asks for the optimum.

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
        start_P = problem.solve(penalties[number], start_P, slope)
        weight_DL, bias_L = problem.unpacked(torch.from_numpy(start_P.copy()))
        found[number] = Classifier(weight_DL, bias_L, standard)
    return found


class _Problem:
    """The objective of one training set and its gradient, for scipy.

    The weights of the optimum are combinations of the samples. So they are sought in an orthonormal basis of at most K
    axes, the principal ones; lengths do not change, and so neither does the penalty. Each axis is scaled by the root of
    its curvature, which makes all directions about equally steep.
    """

    def __init__(self, train: Features, rows_K: Tensor, classes: int, standard: Standard, device: torch.device) -> None:
        self._train, self._rows_K, self._standard, self._device = train, rows_K, standard, device
        self._classes = classes
        self._basis_DR, self._spread_R = self._axes()
        kept = 8 * len(rows_K) * len(self._spread_R) <= _KEPT
        self._kept = (
            [(values_BD @ self._basis_DR, labels_B) for values_BD, labels_B in self._converted()] if kept else None
        )

    def zeros(self) -> npt.NDArray[np.float64]:
        return np.zeros((len(self._spread_R) + 1) * self._classes)

    def unpacked(self, parameters_P: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight (D, L) and the bias (L,)."""
        weight_RL, bias_L = self._split(parameters_P)
        return self._basis_DR @ weight_RL, bias_L

    def solve(self, penalty: float, start_P: npt.NDArray[np.float64], slope: float) -> npt.NDArray[np.float64]:
        scale_P = self._scale(penalty, start_P)
        steep = [math.inf]  # length of the latest gradient

        def value(scaled_P: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            found, gradient_P = self._value(scaled_P / scale_P, penalty)
            steep[0] = float(np.linalg.norm(gradient_P))
            return found, gradient_P / scale_P

        def stop(intermediate_result: OptimizeResult) -> None:
            # The objective curves by the penalty at least, so a weight is off by this length over the penalty at most.
            if steep[0] <= max(slope, min(1e-6, _EXACT * penalty)):
                raise StopIteration

        options = {"maxiter": _MOST, "maxfun": 2 * _MOST, "gtol": 0.0, "ftol": 1e-16, "maxcor": 20}
        found = minimize(value, start_P * scale_P, jac=True, method="L-BFGS-B", options=options, callback=stop)
        solution: npt.NDArray[np.float64] = found.x / scale_P
        return solution

    def _axes(self) -> tuple[Tensor, Tensor]:
        """Return the basis (D, R) and the mean square of the samples along each of its axes."""
        width, count = self._train.values_ND.shape[1], len(self._rows_K)
        if width <= count:
            gram_RR = torch.zeros(width, width, dtype=torch.double, device=self._device)
            for values_BD, _ in self._converted():
                gram_RR.addmm_(values_BD.T, values_BD)
            squares_R, basis_DR = torch.linalg.eigh(gram_RR)
        else:
            values_KD = torch.cat([values_BD for values_BD, _ in self._converted()])
            basis_DR, triangle_RK = torch.linalg.qr(values_KD.T)
            squares_R, turned_RR = torch.linalg.eigh(triangle_RK @ triangle_RK.T)
            basis_DR = basis_DR @ turned_RR
        return basis_DR, squares_R.clamp(min=0) / count

    def _scale(self, penalty: float, start_P: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the root of the curvature along each axis at a start, about."""
        curves, count = 0.0, 0
        for scores_BL, _, _ in self._scores(torch.from_numpy(start_P)):
            chance_BL = scores_BL.softmax(1) if self._train.sets_NL is None else scores_BL.sigmoid()
            curves, count = curves + float((chance_BL * (1 - chance_BL)).sum()), count + chance_BL.numel()
        mean = max(curves / count, 1e-8)
        root_R = (mean * self._spread_R + penalty).sqrt()
        both_R = torch.cat((root_R, root_R.new_tensor([math.sqrt(mean)])))
        scale_P: npt.NDArray[np.float64] = both_R[:, None].expand(-1, self._classes).reshape(-1).cpu().numpy()
        return scale_P

    def _value(self, parameters_P: npt.NDArray[np.float64], penalty: float) -> tuple[float, npt.NDArray[np.float64]]:
        advanced()
        weight_RL, bias_L = self._split(torch.from_numpy(parameters_P))
        slopes_DL, gradient_L = None, torch.zeros_like(bias_L)
        value = penalty / 2 * weight_RL.square().sum()
        loss = _multinomial if self._train.sets_NL is None else _each_against_rest
        for scores_BL, values_BD, truth in self._scores(torch.from_numpy(parameters_P)):
            loss_of_tile, slope_BL = loss(scores_BL, truth)
            value = value + loss_of_tile / len(self._rows_K)
            slope_BL /= len(self._rows_K)
            part_DL = values_BD.T @ slope_BL
            slopes_DL = part_DL if slopes_DL is None else slopes_DL.add_(part_DL)
            gradient_L += slope_BL.sum(0)
        assert slopes_DL is not None
        gradient_RL = penalty * weight_RL + (slopes_DL if self._kept is not None else self._basis_DR.T @ slopes_DL)
        return float(value), torch.cat((gradient_RL, gradient_L[None])).reshape(-1).cpu().numpy()

    def _scores(self, parameters_P: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield scores, features and labels in tiles; the features are along the axes if they are kept."""
        weight_RL, bias_L = self._split(parameters_P)
        weight = weight_RL if self._kept is not None else self._basis_DR @ weight_RL
        for values_BD, labels_B in self._kept or self._converted():
            yield torch.addmm(bias_L, values_BD, weight), values_BD, labels_B

    def _split(self, parameters_P: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight (R, L) along the axes and the bias (L,)."""
        both = parameters_P.to(self._device).reshape(-1, self._classes)
        return both[:-1], both[-1]

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
