"""Weighted k-nearest-neighbour classification of frozen features.

Protocol of DINO (Caron et al. 2021, section 4.1; after Wu et al. 2018): features are scaled to length 1. Each of the k
most similar training samples votes for its class with weight exp(similarity / 0.07). DINOv2 votes with a softmax of the
same numbers: that scales all votes of a sample alike, so it ranks the classes alike.

Shape suffixes: N training samples, M test samples, K neighbours, L classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hardviews.checked import OPTION, above, at_least, each, require
from hardviews.data.index import PRESENT
from hardviews.evaluation.evaluation import Evaluation
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.features.neighbours import nearest
from hardviews.evaluation.probe import Choice, Grid, Task, quality
from hardviews.evaluation.protocol import evaluate
from hardviews.evaluation.result import Announce, Result, silent
from hardviews.world import ALONE, World


@dataclass(frozen=True)
class Knn(Evaluation):
    """How to score an encoder by its neighbours.

    Attributes:
        neighbours: the numbers of neighbours to report, cut to the number of training samples.
        temperature: temperature of the votes that are reported for each number of neighbours.
        candidates: numbers of neighbours to choose from on held-out training samples.
        temperatures: to choose from, with each of the candidates.
    """

    neighbours: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07
    candidates: tuple[int, ...] = (1, 3, 5, 10, 20, 50, 100, 200)
    temperatures: tuple[float, ...] = (0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.5)

    def __post_init__(self) -> None:
        """Refuse neighbourhoods without a neighbour, and temperatures that divide nothing."""
        super().__post_init__()
        counts = each(at_least(1))
        require(self, OPTION, neighbours=counts, candidates=counts)
        require(self, OPTION, temperature=above(0), temperatures=each(above(0)))


def evaluate_knn(config: Knn, announce: Announce = silent) -> Result:
    """Score an encoder and its baselines by k-NN; log a child run of its pretraining run.

    Metrics, in per cent: `knn/top1_k20` and so on as published, and `knn/top1` with the number of neighbours and the
    temperature that held-out training samples chose.
    """
    return evaluate(config, "knn", lambda task: fit_knn(config, task), announce)


@dataclass(frozen=True, eq=False)
class FittedKnn:
    """The training set, and the neighbourhood that was chosen."""

    task: Task
    neighbours: Sequence[int]
    temperature: float
    choice: Choice

    def predict(self, test: Features) -> Mapping[str, Tensor]:
        task = self.task
        k, temperature = int(self.choice.settings["k"]), self.choice.settings["temperature"]
        similarity_MK, label_MK = _labelled(task.train, test, max(k, *self.neighbours), task.world, "neighbours")
        scores = {"": votes(similarity_MK, label_MK, k, temperature, task.classes)}
        for k in self.neighbours:
            scores[f"k{k}"] = votes(similarity_MK, label_MK, k, self.temperature, task.classes)
        return scores


def fit_knn(config: Knn, task: Task) -> FittedKnn:
    """Choose the number of neighbours and the temperature on the held-out samples."""
    fitted, held = task.train.rows(task.fitted_K), task.train.rows(task.chosen_on_K)
    neighbours = cut(config.neighbours, len(task.train))
    tried = cut(config.candidates, len(fitted))
    similarity_MK, label_MK = _labelled(fitted, held, max(tried), task.world, "held-out neighbours")
    accuracy = {
        (k, temperature): quality(votes(similarity_MK, label_MK, k, temperature, task.classes), held)
        for k in tried
        for temperature in config.temperatures
    }
    # The first of equals: fewer neighbours, then the lower temperature.
    k, temperature = max(accuracy, key=lambda one: accuracy[one])
    of_k: dict[float, float] = {other: accuracy[other, temperature] for other in tried}
    of_temperature = {other: accuracy[k, other] for other in config.temperatures}
    remarks = Grid("number of neighbours", tried, least=1).remark(k, of_k)
    remarks += Grid("temperature", config.temperatures).remark(temperature, of_temperature)
    choice = Choice({"k": k, "temperature": temperature}, accuracy[k, temperature], remarks)
    return FittedKnn(task, neighbours, config.temperature, choice)


def cut(neighbours: Sequence[int], samples: int) -> list[int]:
    """Return the numbers of neighbours in order, none above the number of samples."""
    return sorted({min(k, samples) for k in neighbours})


def knn_votes(
    train: Features,
    test: Features,
    neighbours: Sequence[int],
    temperature: float = 0.07,
    *,
    classes: int,
    world: World = ALONE,
) -> dict[int, Tensor]:
    """Return the votes (M, L) for each number of neighbours (cut to N), on the host."""
    counts = cut(neighbours, len(train))
    similarity_MK, label_MK = _labelled(train, test, max(counts), world)
    return {k: votes(similarity_MK, label_MK, k, temperature, classes) for k in counts}


def votes(similarity_MK: Tensor, label_MK: Tensor, k: int, temperature: float, classes: int) -> Tensor:
    """Return the votes (M, L) of the k nearest of sorted neighbours.

    label_MK: their classes; or (M, K, L), for each class whether it is present in them: such neighbours vote for
    several. A test sample's votes are scaled so that its nearest neighbour has one: exp of low temperatures has no
    bound.
    """
    weight_MK = ((similarity_MK[:, :k] - similarity_MK[:, :1]) / temperature).exp()
    votes_ML = torch.zeros(len(similarity_MK), classes, dtype=torch.double)
    if label_MK.dim() == 3:
        for place in range(weight_MK.shape[1]):  # one after the other: all of them in double precision are too large
            votes_ML += weight_MK[:, place, None] * label_MK[:, place]
        return votes_ML
    return votes_ML.scatter_add_(1, label_MK[:, :k], weight_MK)


def _labelled(train: Features, test: Features, most: int, world: World, title: str = "") -> tuple[Tensor, Tensor]:
    similarity_MK, place_MK = nearest(train.values_ND, test.values_ND, most, world, title)
    return similarity_MK, train.labels_N[place_MK] if train.sets_NL is None else (train.sets_NL == PRESENT)[place_MK]
