"""The outcome of an evaluation.

Shape suffixes: M test samples, L classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from hardviews.evaluation.features.sources import Source
from hardviews.evaluation.per_class import ClassScore


@dataclass(frozen=True, eq=False)
class Scores:
    """A protocol's metrics of one kind of features, and its predictions.

    `headings` are the headings of columns in a table, by metric. Only test accuracies, in per cent, have one; the other
    metrics are only logged. `predictions_M` is the predicted class of each test sample, `confidence_M` its confidence
    from 0 to 1.
    """

    metrics: Mapping[str, float]
    headings: Mapping[str, str]
    predictions_M: Tensor
    confidence_M: Tensor


@dataclass(frozen=True)
class Result:
    """An evaluation's outcome: metrics by source of features, the encoder's digest, and the run it is logged to.

    Attributes:
        name: name of the evaluation.
        metrics: metrics by source of features.
        headings: headings of columns, as in `Scores`.
        digest: digest of the encoder.
        run_id: id of the run that the result is logged to.
        classes: number of classes, 0 if chance is unknown.
        remarks: sentences for people, for example about a grid that is too narrow.
        logged: whether the whole result arrived in the run.
        undelivered: reason and remedy if it did not.
        label: name of the published protocol, if there are several.
        encoder: name of the encoder in a table.
        per_class: accuracy of each class, if the evaluation has it.
    """

    name: str
    metrics: Mapping[Source, Mapping[str, float]]
    headings: Mapping[str, str]
    digest: str
    run_id: str
    classes: int = 0
    remarks: tuple[str, ...] = ()
    logged: bool = True
    undelivered: str = ""
    label: str = ""
    encoder: str = "pretrained encoder"
    per_class: tuple[ClassScore, ...] = ()


Announce = Callable[[Result], None]


def silent(result: Result) -> None:
    """Announce nothing."""
