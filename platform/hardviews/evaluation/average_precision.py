"""Average precision of images that may have several classes, in the two forms of the published protocols.

A precision at some recall is interpolated: the best at that recall or a higher one. Images that are ignored for a class
do not count for it. Images of equal scores are taken together, so their order does not matter.

Shape suffixes: M samples, L classes, G groups of samples of equal score, the highest first.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hardviews.data.index import IGNORED, PRESENT

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Precision = Callable[[Floats, npt.NDArray[np.int8]], float]


def eleven_point(scores_M: Floats, sets_M: npt.NDArray[np.int8]) -> float:
    """Return the mean of the interpolated precision at recall 0, 0.1, ..., 1, from 0 to 1 (VOC until 2009).

    sets_M: PRESENT, ABSENT or IGNORED (`hardviews.data.index`), of which one at least is present.
    """
    hits_G, best_G = _curve(scores_M, sets_M)
    total = int(hits_G[-1])
    # In whole numbers: 0.3 * 10 is not 3 in floating point.
    firsts = [int(np.searchsorted(10 * hits_G, tenths * total)) for tenths in range(11)]
    return float(np.mean([best_G[first] for first in firsts]))


def interpolated_area(scores_M: Floats, sets_M: npt.NDArray[np.int8]) -> float:
    """Return the area below the interpolated precision as a function of recall, from 0 to 1 (VOC from 2010, VISSL).

    sets_M: as of `eleven_point`.
    """
    hits_G, best_G = _curve(scores_M, sets_M)
    return float((np.diff(hits_G, prepend=0) * best_G).sum() / hits_G[-1])


def mean_precision(precision: Precision, scores_ML: Tensor, sets_ML: Tensor) -> float:
    """Return the mean over classes in per cent; classes that are present in no sample are left out."""
    scores, sets = scores_ML.double().numpy(), sets_ML.numpy()
    seen = [number for number in range(sets.shape[1]) if (sets[:, number] == PRESENT).any()]
    return 100.0 * float(np.mean([precision(scores[:, number], sets[:, number]) for number in seen])) if seen else 0.0


def _curve(scores_M: Floats, sets_M: npt.NDArray[np.int8]) -> tuple[Ints, Floats]:
    """Return how many samples of the class are found up to each group, and the interpolated precision there."""
    judged = sets_M != IGNORED
    scores, present = scores_M[judged], sets_M[judged] == PRESENT
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits_G = np.cumsum(present[order], dtype=np.int64)[ends]
    precision_G = hits_G / (ends + 1)
    return hits_G, np.maximum.accumulate(precision_G[::-1])[::-1]
