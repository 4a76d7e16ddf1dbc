"""Linear transfer: logistic regression on the frozen features of several data sets, each with its own metric.

Protocol of Kornblith et al. 2019 (appendix A; SimCLR, appendix B.8; BYOL, appendix D). The shorter side is resized to
the size of the crop, and features are not standardised. The L2 weight is chosen among 45 on held-out images; then all
training images are fitted. Images that may have several classes have a logistic regression for each class.

Shape suffixes: M test samples, L classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hardviews.checked import OPTION, above, each, require
from hardviews.data.address import name_of_address
from hardviews.errors import UserError
from hardviews.evaluation.average_precision import eleven_point
from hardviews.evaluation.evaluation import Evaluation
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.probe import Choice, Grid, Task, from_holder, quality
from hardviews.evaluation.probes.logistic import solve
from hardviews.evaluation.probes.sweep import Classifier, Standard, shared
from hardviews.evaluation.protocol import evaluate
from hardviews.evaluation.result import Announce, Result, silent
from hardviews.models.encoder import Interpolation
from hardviews.storage.url import check_given

MEAN_CLASS = ("aircraft", "fgvcaircraft", "pets", "oxfordiiitpet", "caltech101", "flowers", "flowers102")
"""Data sets whose published metric is the mean of the classes' accuracies; all others have top-1."""

_NAMES = {"top1": "top-1", "mean_class": "mean per class", "map11": "11-point mAP"}

_LAMBDAS = tuple(10.0 ** (number / 4 - 6) for number in range(45))
"""Weights of the squared length beside the sum of losses: 45 values from 1e-6 to 1e5, as published."""

_CHOOSING = 1e-4
"""Length of the gradient of the mean loss at which a candidate is fitted well enough to be compared with others.

scikit-learn stops as soon as no element is larger. Small weights would take most of the time to get further.
"""


@dataclass(frozen=True)
class Transfer(Evaluation):
    """How to score an encoder by linear classifiers on other data sets.

    Attributes:
        sets: data sets, each with the parts train and test: folders (paths or URLs) of packed ones, or any other form
            that `data` takes.
        weights_l2: weights of the squared length beside the sum of losses, to choose from.
        metric: `auto` takes the published metric of a set by the name of its folder, top-1 for an unknown one. Images
            of several classes always have the 11-point mean average precision.
    """

    sets: tuple[str, ...] = ()
    weights_l2: tuple[float, ...] = _LAMBDAS
    metric: Literal["auto", "top1", "mean_class"] = "auto"

    def __post_init__(self) -> None:
        """Refuse no data set, and weights that are none."""
        super().__post_init__()
        require(self, OPTION, weights_l2=each(above(0)))
        if not self.sets and self.data is None:
            raise UserError("Transfer: name the data sets: --sets shards/cifar10 shards/pets")
        for place in self.sets:
            check_given(sets=place)

    def preprocess(self, image_size: int, interpolation: Interpolation = "bicubic") -> Preprocess:
        """Return the protocol's: nothing of the shorter side is cut off."""
        crop = self.crop or image_size
        return Preprocess(self.resize or crop, crop, interpolation)

    def places_of_data(self) -> tuple[str, ...]:
        """Return the addresses of all data sets as they are now, packed or not."""
        return tuple(url for place in self.places() for url in replace(self, data=place, sets=()).places_of_one())

    def places_of_one(self) -> tuple[str, ...]:
        """Return the addresses of the only data set."""
        return super().places_of_data()

    def places(self) -> tuple[str, ...]:
        """Return the folders of all data sets."""
        return self.sets or (str(self.data),)


def metric_of(name: str, wanted: str = "auto") -> str:
    """Return the metric of a data set by the name of its folder, up to a dot."""
    if wanted != "auto":
        return wanted
    plain = name.partition(".")[0].lower().replace("-", "").replace("_", "")
    return "mean_class" if plain in MEAN_CLASS else "top1"


def run_transfer(config: Transfer, announce: Announce = silent) -> dict[str, Result]:
    """Evaluate on one data set after the other, and print a table of all.

    Metrics, in per cent, on a child run for each set: `transfer/top1`, `transfer/mean_class`; of images that may have
    several classes `transfer/map11`, the 11-point mean average precision. A set that cannot be read is reported, and
    the others are evaluated.

    Raises:
        UserError: at the end, naming the sets that could not be evaluated and why.
    """
    found: dict[str, Result] = {}
    failed: dict[str, str] = {}
    for place in config.places():
        name = place
        try:
            short = name_of_address(place)
            name = short if short not in found | failed else place  # two forms of one data set
            found[name] = evaluate(
                replace(config, data=place), "transfer", lambda task: fit_transfer(config, task), announce
            )
        except UserError as error:
            failed[name] = str(error)
    if found:
        Console().print(table(found, config.metric))
    if failed:
        reasons = " ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise UserError(f"Transfer: {len(failed)} of {len(config.places())} data sets were not evaluated. {reasons}")
    return found


def table(found: Mapping[str, Result], wanted: str = "auto") -> Table:
    """Return a row for each data set, with its own metric, and their mean."""
    view = Table(title="Linear transfer (%)", title_justify="left", box=SIMPLE_HEAD)
    view.add_column("data set")
    view.add_column("metric")
    sources = list(next(iter(found.values())).metrics)
    for source in sources:
        view.add_column(source, justify="right")
    rows: list[list[float]] = []
    for name, result in found.items():
        kind = metric_of(name, wanted)
        if f"transfer/{kind}" not in result.metrics[sources[0]]:  # images of several classes
            kind = "map11"
        rows.append([result.metrics[source][f"transfer/{kind}"] for source in sources])
        view.add_row(name, _NAMES[kind], *_cells(rows[-1]))
    view.add_row("mean", "", *_cells([sum(column) / len(rows) for column in zip(*rows, strict=True)]))
    return view


def _cells(values: Sequence[float]) -> list[str]:
    return [f"{value:.1f}" for value in values]


@dataclass(frozen=True, eq=False)
class FittedTransfer:
    """The classifier that was chosen."""

    classifier: Classifier
    choice: Choice
    task: Task

    def predict(self, test: Features) -> Mapping[str, Tensor | Sequence[Tensor]]:
        return {"": self.classifier.scores(test.values_ND, self.task.world.device)}


def fit_transfer(config: Transfer, task: Task) -> FittedTransfer:
    """Choose the weight on the held-out samples, then fit all of them with it."""
    candidates = sorted(config.weights_l2, reverse=True)
    if len(candidates) > 1 and not len(task.chosen_on_K):
        raise UserError(f"Transfer: {len(task.train)} training samples are too few to hold some out.")
    held = task.train.rows(task.chosen_on_K)
    fitted = _solve(candidates, task, task.fitted_K, _CHOOSING)
    accuracy = shared(
        {
            number: quality(one.scores(held.values_ND, task.world.device), held, eleven_point) if len(held) else 0.0
            for number, one in fitted.items()
        },
        task.world,
    )
    best = max(sorted(accuracy), key=lambda number: accuracy[number])  # the first of equals: the heaviest
    classifier = from_holder(_solve([candidates[best]], task, torch.arange(len(task.train))).get(0), task.world)
    along = {weight: accuracy[number] for number, weight in enumerate(candidates)}
    remarks = Grid("L2 weight", candidates).remark(candidates[best], along)
    return FittedTransfer(classifier, Choice({"l2": candidates[best]}, accuracy[best], remarks), task)


def _solve(weights: Sequence[float], task: Task, rows_K: Tensor, slope: float = 0.0) -> dict[int, Classifier]:
    """Solve for weights beside the sum of losses: `solve` takes those beside its mean."""
    plain = Standard.of(task.train.values_ND, rows_K, on=False)
    penalties = [weight / len(rows_K) for weight in weights]
    return solve(penalties, task.train, rows_K, task.classes, plain, task.world, slope=slope)
