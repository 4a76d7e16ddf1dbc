"""Few-shot classification of frozen features: a classifier fitted on k images of each class, over several draws.

By default it is ridge regression, the closed form of big_vision's evaluator (see `ridge.py`); `fewshot_svm.py` has the
other one. Draws are nested in k and depend on content and seed alone. The penalty is chosen by cross-validation on the
shots themselves: an evaluation whose choice takes further labels is not few-shot.

Shape suffixes: N training samples, S shots of all classes, M test samples, L classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hardviews.checked import OPTION, above, at_least, each, require
from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.evaluation.evaluation import Evaluation
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.probe import Choice, Fitted, Task, top
from hardviews.evaluation.probes.fewshot_svm import fit_svm
from hardviews.evaluation.probes.ridge import PENALTY, ridge_scores
from hardviews.evaluation.probes.shots import draw_shots, ranks
from hardviews.evaluation.probes.svm import COSTS
from hardviews.evaluation.protocol import evaluate
from hardviews.evaluation.result import Announce, Result, silent

_FOLDS = 4  # most folds of a cross-validation


@dataclass(frozen=True)
class Fewshot(Evaluation):
    """How to score an encoder by few labelled images of each class.

    Attributes:
        shots: the numbers of images of each class.
        draws: how often they are drawn, by seeds from 0.
        penalties: to choose from, by cross-validation on the shots; one shot of each class takes big_vision's 1024.
        classifier: `ridge`, or `svm` for VISSL's support vector machines, which images of several classes need.
        costs: costs of the support vector machines, to choose from by cross-validation on the shots; one shot of each
            class takes 1.
        full: fit support vector machines on all training images as well, as in the VOC07 protocol.
    """

    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    draws: int = 5
    penalties: tuple[float, ...] = (2.0**0, 2.0**5, 2.0**10, 2.0**15, 2.0**20)
    classifier: Literal["ridge", "svm"] = "ridge"
    costs: tuple[float, ...] = COSTS
    full: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers of shots and draws that are none."""
        super().__post_init__()
        require(
            self,
            OPTION,
            shots=each(at_least(1)),
            draws=at_least(1),
            penalties=each(above(0)),
            costs=each(above(0)),
        )
        if self.full and self.classifier != "svm":
            raise UserError("Few-shot: --full is for support vector machines. Give --classifier svm, or leave it out.")

    def check_data(self, train: Index) -> None:
        """Refuse images of several classes for ridge regression."""
        if train.multi_label and self.classifier == "ridge":
            raise UserError(
                f"Few-shot: the images of the dataset at {train.url} may have several classes each, which ridge "
                "regression does not take. Give --classifier svm."
            )


def evaluate_fewshot(config: Fewshot, announce: Announce = silent) -> Result:
    """Score an encoder and its baselines by few shots; log a child run of its pretraining run.

    Metrics, in per cent: `fewshot/top1_k5`, the mean over draws, and `fewshot/top1_k5_std`, their standard deviation.
    `fewshot/top1` is the first draw of the largest number of shots, or `--full`. If images may have several classes,
    all are mean average precisions: `fewshot/map_k5`. `fewshot/peek_map_k5` has the cost that is the best on the test
    set itself, as published.
    """

    def fit(task: Task) -> Fitted:
        if config.classifier == "svm":
            return fit_svm(task, config.shots, config.draws, config.costs, config.full)
        return fit_fewshot(config, task)

    return evaluate(config, "fewshot", fit, announce)


@dataclass(frozen=True, eq=False)
class Draw:
    """The shots of one draw, and the penalty that they chose."""

    chosen_S: Tensor
    penalty: float


@dataclass(frozen=True, eq=False)
class FittedFewshot:
    """The draws of every number of shots."""

    task: Task
    draws: Mapping[int, Sequence[Draw]]
    choice: Choice

    def predict(self, test: Features) -> Mapping[str, Tensor | Sequence[Tensor]]:
        scores = {f"k{shots}": [self._scores(draw, test) for draw in draws] for shots, draws in self.draws.items()}
        return {"": scores[f"k{max(self.draws)}"][0], **scores}

    def _scores(self, draw: Draw, test: Features) -> Tensor:
        train, device = self.task.train.rows(draw.chosen_S), self.task.world.device
        found = ridge_scores(
            train.values_ND.to(device), train.labels_N, test.values_ND.to(device), self.task.classes, (draw.penalty,)
        )
        return found[draw.penalty].cpu()


def fit_fewshot(config: Fewshot, task: Task) -> FittedFewshot:
    """Draw the shots, and choose a penalty for each draw."""
    labels = task.train.labels_N.tolist()
    counts_L = torch.bincount(task.train.labels_N)
    least = int(counts_L[counts_L > 0].min())
    wanted = sorted({shots for shots in config.shots if shots <= least})
    if not wanted:
        raise UserError(
            f"Few-shot: the smallest class has {least} training images, fewer than {min(config.shots)} shots. Give "
            "fewer --shots, or pack more images of each class."
        )
    left_out = sorted(set(config.shots) - set(wanted))
    remarks = [f"{k} shots are left out: the smallest class has {least} training images." for k in left_out]
    draws: dict[int, list[Draw]] = {}
    for shots in wanted:
        for seed in range(config.draws):
            chosen_S = torch.from_numpy(draw_shots(labels, task.names, shots, seed))
            penalty = _penalty(config, task, chosen_S, shots, seed)
            draws.setdefault(shots, []).append(Draw(chosen_S, penalty))
    return FittedFewshot(task, draws, Choice({}, None, remarks))


def _penalty(config: Fewshot, task: Task, chosen_S: Tensor, shots: int, seed: int) -> float:
    """Return the penalty of the best accuracy in cross-validation on the shots: a fold has some of every class."""
    if len(config.penalties) == 1:
        return config.penalties[0]
    if shots == 1:
        return PENALTY
    train = task.train.rows(chosen_S)
    names = [task.names[place] for place in chosen_S.tolist()]
    fold_S = torch.from_numpy(ranks(train.labels_N.tolist(), names, seed) % min(shots, _FOLDS))
    right = np.zeros(len(config.penalties))
    penalties = sorted(config.penalties, reverse=True)  # among equals the stronger penalty
    for fold in range(min(shots, _FOLDS)):
        kept, tried = train.rows(fold_S != fold), train.rows(fold_S == fold)
        device = task.world.device
        found = ridge_scores(
            kept.values_ND.to(device), kept.labels_N, tried.values_ND.to(device), task.classes, penalties
        )
        right += [top(1, found[penalty].cpu(), tried.labels_N) * len(tried) for penalty in penalties]
    return penalties[int(right.argmax())]
