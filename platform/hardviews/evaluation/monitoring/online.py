"""Scores of features that take less than a second: k-NN and closed-form few-shot, for a run that trains.

Shape legend: N samples to learn from, M to be tested on, D features.
"""

import torch
from torch import Tensor

from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.probe import top
from hardviews.evaluation.probes.knn import knn_votes
from hardviews.evaluation.probes.ridge import PENALTY, ridge_scores
from hardviews.evaluation.probes.shots import draw_shots
from hardviews.world import World

PREFIX = "online/"
NEIGHBOURS, SHOTS = 20, 10
KNN, FEWSHOT = f"knn_top1_k{NEIGHBOURS}", f"fewshot_top1_k{SHOTS}"


def online_scores(bank: Features, test: Features, device: torch.device) -> dict[str, float]:
    """Return the accuracies in per cent by name: `knn_top1_k20` and `fewshot_top1_k10`.

    The second one is left out if a class of the bank has fewer than 10 samples. Shots are drawn by a hash of the
    sample's place in the bank. Features that are not finite have no scores.
    """
    if not all(torch.isfinite(part.values_ND).all() for part in (bank, test)):
        return {}
    classes = int(bank.labels_N.max()) + 1
    votes = knn_votes(bank, test, (NEIGHBOURS,), classes=classes, world=World(0, 1, device))
    found = {KNN: top(1, next(iter(votes.values())), test.labels_N)}
    if enough_shots(bank.labels_N):
        shots = draw_shots(bank.labels_N.tolist(), [str(place) for place in range(len(bank))], SHOTS)
        chosen = torch.from_numpy(shots)
        train_ND, labels_N = bank.values_ND[chosen].to(device), bank.labels_N[chosen]
        scores_ML = ridge_scores(train_ND, labels_N, test.values_ND.to(device), classes)[PENALTY]
        found[FEWSHOT] = top(1, scores_ML, test.labels_N)
    return found


def enough_shots(labels_N: Tensor) -> bool:
    """Return whether every class has as many samples as few-shot takes."""
    return int(torch.bincount(labels_N).min()) >= SHOTS
