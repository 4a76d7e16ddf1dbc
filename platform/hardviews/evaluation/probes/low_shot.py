"""Draws of few images of each class for one-against-rest classifiers, as VISSL's low-shot protocol has them.

A class gets k images in which it is present and 19 k in which it is absent (Goyal et al. 2019, "Scaling and
Benchmarking Self-Supervised Visual Representation Learning", section 6.2). VISSL draws without a seed; here a draw
depends on seed, class and content alone, and the images of k are among those of k + 1.

Shape suffixes: N training samples, S those that any class takes, L classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hardviews.data.index import ABSENT, PRESENT
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.probes.shots import draw_shots, ranks

NEGATIVES = 19
"""Images without a class for each one with it."""


@dataclass(frozen=True, eq=False)
class Draw:
    """Samples to fit on.

    `rows_S` are their places. `targets_SL` is 1 or -1 for each class, or 0 for a sample that the class does not use.
    `folds_SL` is the place of each sample among samples of its kind; its remainder is the fold in a cross-validation.
    """

    rows_S: Tensor
    targets_SL: npt.NDArray[np.int8]
    folds_SL: npt.NDArray[np.int64]


def fewest(train: Features, classes: int) -> int:
    """Return the number of images of the smallest class that occurs."""
    if train.sets_NL is None:
        counts_L = torch.bincount(train.labels_N, minlength=classes)
    else:
        counts_L = (train.sets_NL == PRESENT).sum(0)
    return int(counts_L[counts_L > 0].min())


def draw(train: Features, names: Sequence[str], classes: int, shots: int, seed: int) -> Draw:
    """Return the draw of so many shots; classes of one image each take all other shots as images without the class."""
    if train.sets_NL is None:
        rows_S = torch.from_numpy(draw_shots(train.labels_N.tolist(), names, shots, seed))
        targets_SL = _one_hot(train.labels_N[rows_S].numpy(), classes)
        return Draw(rows_S, targets_SL, _folds(targets_SL, [names[row] for row in rows_S.tolist()], seed))
    sets = train.sets_NL.numpy()
    targets_NL = np.zeros(sets.shape, np.int8)
    for number in range(classes):
        place_N = _places(sets[:, number], names, number, seed)
        targets_NL[(sets[:, number] == PRESENT) & (place_N < shots), number] = 1
        targets_NL[(sets[:, number] == ABSENT) & (place_N < NEGATIVES * shots), number] = -1
    rows_S = torch.from_numpy(np.flatnonzero((targets_NL != 0).any(1)))
    targets_SL = targets_NL[rows_S.numpy()]
    return Draw(rows_S, targets_SL, _folds(targets_SL, [names[row] for row in rows_S.tolist()], seed))


def everything(train: Features, names: Sequence[str], classes: int) -> Draw:
    """Return all samples; an ignored image counts as one without the class, as in VISSL's full protocol."""
    if train.sets_NL is None:
        targets_NL = _one_hot(train.labels_N.numpy(), classes)
    else:
        targets_NL = np.where(train.sets_NL.numpy() == PRESENT, 1, -1).astype(np.int8)
    return Draw(torch.arange(len(train)), targets_NL, _folds(targets_NL, names, seed=0))


def _one_hot(labels_S: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int8]:
    return np.where(labels_S[:, None] == np.arange(classes), 1, -1).astype(np.int8)


def _folds(targets_SL: npt.NDArray[np.int8], names: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """Return for each class and sample its place among samples of its kind: modulo a number of folds, its fold."""
    columns = [_places(column, names, number, seed) for number, column in enumerate(targets_SL.T)]
    return np.stack(columns, 1)


def _places(kinds_N: npt.NDArray[np.int8], names: Sequence[str], number: int, seed: int) -> npt.NDArray[np.int64]:
    """Return each sample's place among samples of its kind, by a hash of seed, class, kind and content."""
    return ranks((3 * number + kinds_N.astype(np.int64) + 1).tolist(), names, seed)
