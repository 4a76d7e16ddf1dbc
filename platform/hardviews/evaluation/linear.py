"""Linear classification of frozen features: SGD as MoCo and SimSiam do it, or L-BFGS for small data.

The learning rate (or the L2 penalty) is chosen on a held-out part of the training set, never on the test set.
Features are those of the central crop, computed once, so there is no augmentation: published protocols train
on random crops and score about a point higher.

Shape suffixes: N training samples, K those of them that are fitted, M test samples, B a batch, D features, L classes,
R learning rates tried.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hardviews.checked import OPTION, above, at_least, each, require
from hardviews.errors import UserError
from hardviews.evaluation.features import Features
from hardviews.evaluation.protocol import Announce, Evaluation, Result, Scores, evaluate, silent, top

#: Headings of the accuracies in a table, on two lines: a table of both protocols fits a terminal of 80 columns.
HEADINGS = {"linear_top1": "linear\ntop-1", "linear_top5": "linear\ntop-5", "linear_top1_best": "linear\nbest"}

# `auto` takes L-BFGS up to this many products of one pass (N * D * L): a minute on two CPU cores.
_SMALL = 200_000_000


@dataclass(frozen=True)
class Linear(Evaluation):
    """How to score an encoder by a linear classifier on its frozen features.

    Attributes:
        solver: `lbfgs` solves the penalised problem exactly, `sgd` trains as the papers do, `auto` takes
            lbfgs where the features are few.
        rates: SGD's learning rates to choose from, for a batch of 256 (scaled linearly).
        penalties: L2 weights to choose from for lbfgs.
        epochs: of SGD.
        sgd_batch: of SGD.
        momentum: of SGD.
        standardise: scale each feature to mean 0 and deviation 1 over the training set.
        held_out: the share of the training set to choose on, at most 10,000 samples.
    """

    solver: Literal["auto", "lbfgs", "sgd"] = "auto"
    rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    penalties: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    epochs: int = 100
    sgd_batch: int = 256
    momentum: float = 0.9
    standardise: bool = True
    held_out: float = 0.1

    def __post_init__(self) -> None:
        """Refuse choices of nothing, and numbers that no solver can use."""
        super().__post_init__()
        require(
            self,
            OPTION,
            rates=each(above(0)),
            penalties=each(above(0)),
            epochs=at_least(1),
            sgd_batch=at_least(1),
            momentum=at_least(0, below=1),
            held_out=above(0, below=1),
        )


@dataclass(frozen=True, eq=False)
class Probe:
    """A trained linear classifier's record.

    scores_ML: test scores of the classifier after the last epoch; top1_E: test accuracy in per cent after
    each epoch (one entry for lbfgs); choice: the learning rate or penalty taken; held_out_R: held-out
    accuracy of each candidate.
    """

    solver: str
    choice: float
    held_out_R: tuple[float, ...]
    top1_E: tuple[float, ...]
    scores_ML: Tensor


def evaluate_linear(config: Linear, announce: Announce = silent) -> Result:
    """Score an encoder (and, on request, its baselines) by a linear probe; log a child run of its pretraining
    run.

    Metrics, in per cent: `linear_top1` and `linear_top5` after the last epoch, and `linear_top1_best`, the
    best epoch on the test set, which is what several papers print and is optimistic.
    """

    def score(train: Features, test: Features, classes: int, device: torch.device) -> Scores:
        probe = fit_probe(config, train, test, classes=classes, device=device)
        metrics = {
            "linear_top1": top(1, probe.scores_ML, test.labels_N),
            "linear_top1_best": max(probe.top1_E),
            "linear_held_out": max(probe.held_out_R),
            "linear_choice": probe.choice,
        }
        if classes > 5:
            metrics["linear_top5"] = top(5, probe.scores_ML, test.labels_N)
        return Scores(metrics, HEADINGS, probe.scores_ML.argmax(1), f"linear probe ({probe.solver})")

    return evaluate(config, "linear", score, announce)


def fit_probe(
    config: Linear, train: Features, test: Features, *, classes: int, device: torch.device | str = "cpu"
) -> Probe:
    """Choose the learning rate or penalty on held-out training samples, fit all of them with it, and score
    the test set.

    A pure function of its arguments: initial weights, batches and the split depend on the seed alone.
    """
    count = min(max(1, round(config.held_out * len(train))), 10_000)
    if len(train) - count < 1:
        raise UserError(f"Linear: {len(train)} training samples are too few to hold some out.")
    small = train.values_ND.numel() * classes <= _SMALL
    solver = config.solver if config.solver != "auto" else "lbfgs" if small else "sgd"
    candidates = config.penalties if solver == "lbfgs" else config.rates
    order_N = torch.randperm(len(train), generator=torch.Generator().manual_seed(config.seed))
    held, kept = order_N[:count], order_N[count:]

    # Copies, which are then changed in place: of ImageNet's features there is no room for a third.
    values_ND, test_MD = train.values_ND.to(device, copy=True), test.values_ND.to(device, copy=True)
    labels_N, test_labels_M = train.labels_N.to(device), test.labels_N.to(device)
    if config.standardise:
        shift_D, scale_D = _statistics(values_ND)
        values_ND.sub_(shift_D).mul_(scale_D)
        test_MD.sub_(shift_D).mul_(scale_D)
    held, kept = held.to(device), kept.to(device)
    fit = _fit_lbfgs if solver == "lbfgs" else _fit_sgd

    trial, _ = fit(config, values_ND, labels_N, kept, values_ND[held], labels_N[held], candidates, classes)
    held_out_R = tuple(accuracies[-1] for accuracies in trial)
    # The first of equals: the smaller step, the smaller penalty.
    best = held_out_R.index(max(held_out_R))
    chosen, every = candidates[best : best + 1], torch.arange(len(train), device=device)
    accuracies, scores = fit(config, values_ND, labels_N, every, test_MD, test_labels_M, chosen, classes)
    if not torch.isfinite(scores).all():
        raise UserError(f"Linear: the weights overflow at every learning rate of {candidates}; give lower --rates.")
    return Probe(solver, candidates[best], held_out_R, tuple(accuracies[0]), scores[0].cpu())


def _statistics(values_ND: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each feature and the inverse of its deviation; a constant feature keeps its scale."""
    deviation_D, mean_D = torch.std_mean(values_ND, dim=0, correction=0)
    return mean_D, torch.where(deviation_D > 1e-6, 1 / deviation_D.clamp(min=1e-6), 1.0)


def _fit_sgd(
    config: Linear,
    values_ND: Tensor,
    labels_N: Tensor,
    rows_K: Tensor,
    test_MD: Tensor,
    test_labels_M: Tensor,
    rates: Sequence[float],
    classes: int,
) -> tuple[list[list[float]], Tensor]:
    """Train one classifier a learning rate, side by side; return accuracies [R][epoch] and last scores (R, M,
    L).

    SGD with momentum, no weight decay, cosine schedule; weights start from N(0, 0.01), biases from 0 (MoCo,
    SimSiam).
    """
    device = values_ND.device
    generator = torch.Generator().manual_seed(config.seed + 1)
    start_DL = torch.randn(values_ND.shape[1], classes, generator=generator) * 0.01
    weight_RDL = start_DL.to(device).repeat(len(rates), 1, 1).requires_grad_()
    bias_R1L = torch.zeros(len(rates), 1, classes, device=device, requires_grad=True)
    velocity = [torch.zeros_like(weight_RDL), torch.zeros_like(bias_R1L)]
    rate_R11 = torch.tensor(rates, device=device).reshape(-1, 1, 1)
    batch = min(config.sgd_batch, len(rows_K))
    steps = math.ceil(len(rows_K) / batch)
    accuracies: list[list[float]] = [[] for _ in rates]
    for epoch in range(config.epochs):
        order_K = rows_K[torch.randperm(len(rows_K), generator=generator).to(device)]
        # Learning rates are for a batch of 256 (Goyal et al. 2017) and fall once an epoch.
        factor = batch / 256 * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
        for step in range(steps):
            rows_B = order_K[step * batch : (step + 1) * batch]
            scores_RBL = values_ND[rows_B] @ weight_RDL + bias_R1L
            labels_RB = labels_N[rows_B].expand(len(rates), -1)
            # A sum over learning rates: they share the pass and nothing else.
            loss = F.cross_entropy(scores_RBL.flatten(0, 1), labels_RB.flatten(), reduction="sum") / len(rows_B)
            gradients = torch.autograd.grad(loss, (weight_RDL, bias_R1L))
            with torch.no_grad():
                for parameter, moved, gradient in zip((weight_RDL, bias_R1L), velocity, gradients, strict=True):
                    moved.mul_(config.momentum).add_(gradient)
                    parameter.sub_(rate_R11 * factor * moved)
        with torch.no_grad():
            scores_RML = test_MD @ weight_RDL + bias_R1L
        for r, scores_ML in enumerate(scores_RML):
            # A rate so high that the weights overflow must lose, not win by argmax of NaN.
            finite = bool(torch.isfinite(scores_ML).all())
            accuracies[r].append(top(1, scores_ML, test_labels_M) if finite else 0.0)
    return accuracies, scores_RML


def _fit_lbfgs(
    config: Linear,
    values_ND: Tensor,
    labels_N: Tensor,
    rows_K: Tensor,
    test_MD: Tensor,
    test_labels_M: Tensor,
    penalties: Sequence[float],
    classes: int,
) -> tuple[list[list[float]], Tensor]:
    """Solve softmax regression for each L2 penalty; return accuracies [R][1] and scores (R, M, L).

    Minimises mean cross-entropy + penalty / 2 * |weight|^2; convex, so neither seed nor start matters. Each
    penalty starts from the solution of the next larger one, which is near.
    """
    values_KD, labels_K, test_MD = values_ND[rows_K].double(), labels_N[rows_K], test_MD.double()
    weight_DL = torch.zeros(values_ND.shape[1], classes, dtype=torch.double, device=values_ND.device)
    bias_L = torch.zeros(classes, dtype=torch.double, device=values_ND.device)
    accuracies: dict[float, list[float]] = {}
    scores: dict[float, Tensor] = {}
    for penalty in sorted(penalties, reverse=True):
        parameters = (weight_DL.requires_grad_(), bias_L.requires_grad_())
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=100, tolerance_grad=1e-4, tolerance_change=1e-7, line_search_fn="strong_wolfe"
        )

        def closure(penalty: float = penalty, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(values_KD @ weight_DL + bias_L, labels_K)
            loss = loss + penalty / 2 * weight_DL.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            scores[penalty] = test_MD @ weight_DL + bias_L
        accuracies[penalty] = [top(1, scores[penalty], test_labels_M)]
    return [accuracies[penalty] for penalty in penalties], torch.stack([scores[penalty] for penalty in penalties])
