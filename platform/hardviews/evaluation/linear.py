"""Linear classification of frozen features of the central crop: SGD as MoCo and SimSiam do it, or logistic regression.

The settings are chosen on a held-out part of the training set, never on the test set. Features are computed once, so
there is no augmentation: published protocols that train on random crops score about a point higher.

Shape suffixes: N training samples, K some of them, M test samples, D features, L classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hardviews.checked import OPTION, above, at_least, each, require
from hardviews.errors import UserError
from hardviews.evaluation.evaluation import Evaluation
from hardviews.evaluation.features import Features
from hardviews.evaluation.logistic import solve
from hardviews.evaluation.probe import Choice, Grid, Task, from_holder, top
from hardviews.evaluation.protocol import evaluate
from hardviews.evaluation.result import Announce, Result, silent
from hardviews.evaluation.sweep import Classifier, Head, Schedule, Standard, shared, train_heads

# `auto` takes L-BFGS up to this many products of one pass (N * D * L): a minute on two CPU cores.
_SMALL = 200_000_000
# Training sets below this size are fitted again as a whole, once the settings are chosen.
_REFITTED = 100_000


@dataclass(frozen=True)
class Linear(Evaluation):
    """How to score an encoder by a linear classifier on its frozen features.

    Attributes:
        solver: `lbfgs` solves logistic regression exactly, `sgd` trains as the papers do, `auto` takes lbfgs if the
            features are few.
        rates: SGD's learning rates to choose from, for a batch of 256 (scaled linearly).
        weight_decays: SGD's weight decays to choose from, with each of the rates.
        penalties: L2 weights to choose from for lbfgs.
        epochs: of SGD.
        sgd_batch: of SGD.
        momentum: of SGD.
        standardise: scale each feature to mean 0 and deviation 1 over the training set.
        refit: fit all training samples once the settings are chosen; `auto` does if they are fewer than 100,000.
    """

    solver: Literal["auto", "lbfgs", "sgd"] = "auto"
    rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    weight_decays: tuple[float, ...] = (0.0,)
    penalties: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    epochs: int = 100
    sgd_batch: int = 256
    momentum: float = 0.9
    standardise: bool = True
    refit: Literal["auto", "yes", "no"] = "auto"

    takes_label_sets: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse choices of nothing, and numbers that no solver can use."""
        super().__post_init__()
        require(
            self,
            OPTION,
            rates=each(above(0)),
            weight_decays=each(at_least(0)),
            penalties=each(above(0)),
            epochs=at_least(1),
            sgd_batch=at_least(1),
            momentum=at_least(0, below=1),
        )


def evaluate_linear(config: Linear, announce: Announce = silent) -> Result:
    """Score an encoder and its baselines by a linear probe; log a child run of its pretraining run.

    Metrics, in per cent: `linear/top1` and `linear/top5` of the choice, `linear/held_out_top1` of the choice before it
    was fitted again. `linear/peek_best_top1` is the best candidate on the test set, which several papers print and is
    optimistic; it is logged and never shown.
    """
    return evaluate(config, "linear", lambda task: fit_linear(config, task), announce)


@dataclass(frozen=True, eq=False)
class FittedLinear:
    """The classifier that was chosen, and all candidates of this rank."""

    chosen: Classifier
    candidates: Mapping[int, Classifier]
    choice: Choice
    task: Task

    def predict(self, test: Features) -> Mapping[str, Tensor]:
        return {"": self.chosen.scores(test.values_ND, self.task.world.device)}

    def peek(self, test: Features) -> float:
        """Return the accuracy of the best candidate on the test set itself."""
        return max(_accuracies(self.candidates, test, self.task).values())


def fit_linear(config: Linear, task: Task) -> FittedLinear:
    """Choose learning rate and weight decay, or the penalty, on the held-out samples; fit the classifier."""
    small = task.train.values_ND.numel() * task.classes <= _SMALL
    solver = config.solver if config.solver != "auto" else "lbfgs" if small else "sgd"
    settings: list[dict[str, float]]
    if solver == "lbfgs":
        settings = [{"penalty": penalty} for penalty in sorted(config.penalties, reverse=True)]
    else:
        pairs = [(rate, decay) for decay in sorted(config.weight_decays, reverse=True) for rate in sorted(config.rates)]
        settings = [{"lr": rate, "weight_decay": decay} for rate, decay in pairs]
    if len(settings) > 1 and not len(task.chosen_on_K):
        raise UserError(
            f"Linear: {len(task.train)} training samples are too few to hold some out. Give two of a class, or one "
            "setting instead of several to choose from."
        )
    candidates = _fit(config, settings, task, task.fitted_K)
    held_out = _accuracies(candidates, task.train.rows(task.chosen_on_K), task)
    best = max(sorted(held_out), key=lambda number: held_out[number])  # the first of equals: the tamer one
    every = torch.arange(len(task.train))
    refit = config.refit == "yes" or (config.refit == "auto" and len(task.train) < _REFITTED)
    mine = _fit(config, [settings[best]], task, every).get(0) if refit else candidates.get(best)
    chosen = from_holder(mine, task.world)
    if not (torch.isfinite(chosen.weight_DL).all() and torch.isfinite(chosen.bias_L).all()):
        raise UserError(f"Linear: the weights overflow at every learning rate of {config.rates}; give lower --rates.")
    remarks = [remark for name in settings[best] for remark in _remarks(name, settings, held_out, best)]
    return FittedLinear(chosen, candidates, Choice(settings[best], held_out[best], remarks), task)


def _remarks(name: str, settings: Sequence[Mapping[str, float]], held_out: Mapping[int, float], best: int) -> list[str]:
    """Look along the axis of one setting through the best of the grid."""
    along = {
        one[name]: held_out[number]
        for number, one in enumerate(settings)
        if all(one[other] == settings[best][other] for other in one if other != name)
    }
    return Grid(name, list(along)).remark(settings[best][name], along)


def _fit(config: Linear, settings: Sequence[Mapping[str, float]], task: Task, rows_K: Tensor) -> dict[int, Classifier]:
    """Return this rank's share of the classifiers, by the numbers of their settings."""
    standard = Standard.of(task.train.values_ND, rows_K, config.standardise)
    if "penalty" in settings[0]:
        return solve([one["penalty"] for one in settings], task.train, rows_K, task.classes, standard, task.world)
    heads = [Head(one["lr"], one["weight_decay"]) for one in settings]
    schedule = Schedule(config.epochs, config.sgd_batch, config.momentum, config.seed)
    return train_heads(heads, task.train, rows_K, task.classes, schedule, standard, task.world)


def _accuracies(candidates: Mapping[int, Classifier], samples: Features, task: Task) -> dict[int, float]:
    """Return the accuracy of every rank's candidates; one whose weights overflow has none."""
    found = {}
    for number, classifier in candidates.items():
        scores_ML = classifier.scores(samples.values_ND, task.world.device)
        finite = bool(torch.isfinite(scores_ML).all())
        found[number] = top(1, scores_ML, samples.labels_N) if finite and len(samples) else 0.0
    return shared(found, task.world)
