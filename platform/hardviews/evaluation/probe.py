"""The contract of a protocol: it is fitted on a training set, then it predicts the test set.

A protocol never holds test samples while it is fitted, so that no choice can depend on them.

Shape suffixes: N training samples, M test samples, L classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from hardviews.evaluation.average_precision import Precision, interpolated_area, mean_precision
from hardviews.evaluation.features.crops import Images
from hardviews.evaluation.features.extract import Features
from hardviews.world import World

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled training set, and the part of it on which settings are chosen.

    Attributes:
        train: without features, if the protocol reads the images itself.
        held_out_N: a mask.
        names: names of the samples, each the same for the same content.
        images: images of the training set.
    """

    train: Features
    held_out_N: Tensor
    classes: int
    world: World
    names: Sequence[str] = ()
    images: Images | None = None

    @property
    def fitted_K(self) -> Tensor:
        """The places of the samples that are not held out."""
        return (~self.held_out_N).nonzero()[:, 0]

    @property
    def chosen_on_K(self) -> Tensor:
        """The places of the samples that are held out."""
        return self.held_out_N.nonzero()[:, 0]


@dataclass(frozen=True)
class Choice:
    """The settings that the held-out samples chose.

    Attributes:
        settings: by name, numbers.
        held_out_top1: accuracy of the choice on them, in per cent; the mean average
            precision if images may have several classes.
        remarks: sentences, for example that the best setting lies at the end of its grid.
    """

    settings: Mapping[str, float] = field(default_factory=dict)
    held_out_top1: float | None = None
    remarks: Sequence[str] = ()


class Fitted(Protocol):
    """A protocol after its choice."""

    @property
    def choice(self) -> Choice: ...

    def predict(self, test: Features) -> Mapping[str, Tensor | Sequence[Tensor]]:
        """Return scores (M, L) by their name: the empty one for the headline, `k20` and so on for variants.

        A variant of several draws has a sequence of scores.

        Every rank calls this and gets all scores.
        """
        ...


@runtime_checkable
class Peeks(Protocol):
    """A fitted protocol that can also return the candidates' scores on the test set, by which several papers choose."""

    def peek(self, test: Features) -> float:
        """Return the accuracy in per cent of the candidate that is the best on the test set itself."""
        ...


@runtime_checkable
class PeeksEach(Protocol):
    """A fitted protocol that can return, for several numbers, the result of a choice on the test set itself."""

    def peeks(self, test: Features) -> Mapping[str, float]:
        """Return numbers in per cent by the ends of their names, such as `map_k4`."""
        ...


@dataclass(frozen=True)
class Grid:
    """One axis of a grid: the name of a setting, its values, and the least one that there can be."""

    name: str
    values: Sequence[float]
    least: float | None = None

    def remark(self, chosen: float, accuracy: Mapping[float, float]) -> list[str]:
        """Say that the best value lies at an end of the grid and is better than the one beside it, if so.

        `accuracy`: accuracy of each value, on the held-out samples.
        """
        order = sorted(self.values)
        if len(order) < 3 or chosen not in (order[0], order[-1]) or chosen == self.least:
            return []
        beside, end = (order[1], "lowest") if chosen == order[0] else (order[-2], "highest")
        if accuracy[beside] >= accuracy[chosen]:
            return []
        return [f"The best {self.name}, {chosen:g}, is the {end} of its grid: a wider grid may give a better one."]


def ends_of(name: str, settings: Sequence[Mapping[str, float]], accuracy: Mapping[int, float], best: int) -> list[str]:
    """Look along the axis of one setting through the best of a grid; return `Grid.remark` of it.

    `settings`: settings of all candidates. `accuracy`: accuracy of each, by its number, on the held-out samples.
    """
    along = {
        one[name]: accuracy[number]
        for number, one in enumerate(settings)
        if all(one[other] == settings[best][other] for other in one if other != name)
    }
    return Grid(name, list(along)).remark(settings[best][name], along)


def from_holder(value: T | None, world: World) -> T:
    """Return on every rank the value that one rank holds; the others pass None. Every rank calls this."""
    return next(held for held in world.together(lambda: value) if held is not None)


def top(n: int, scores_ML: Tensor, labels_M: Tensor) -> float:
    """Return the share of samples, in per cent, whose label is among the n classes of highest score."""
    best_Mn = scores_ML.topk(min(n, scores_ML.shape[1]), dim=1).indices
    return 100.0 * (best_Mn == labels_M.to(best_Mn.device)[:, None]).any(1).double().mean().item()


def quality(scores_ML: Tensor, samples: Features, precision: Precision = interpolated_area) -> float:
    """Return the accuracy of scores, or the mean average precision if images may have several classes, in per cent."""
    if samples.sets_NL is not None:
        return mean_precision(precision, scores_ML, samples.sets_NL)
    return top(1, scores_ML, samples.labels_N)


def mean_class(predictions_M: Tensor, labels_M: Tensor, classes: int) -> float:
    """Return the mean of the classes' accuracies, in per cent; classes without a sample are left out."""
    right_L = torch.bincount(labels_M[predictions_M == labels_M], minlength=classes).double()
    count_L = torch.bincount(labels_M, minlength=classes).double()
    return 100.0 * (right_L[count_L > 0] / count_L[count_L > 0]).mean().item()
