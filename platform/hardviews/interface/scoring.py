"""Evaluations of an encoder, with tables that a notebook shows."""

import io
from dataclasses import dataclass
from typing import Any, Literal

from rich.console import Console

from hardviews.errors import UserError
from hardviews.evaluation.compare import Compare, run_compare
from hardviews.evaluation.probes.classify import Classify, evaluate_classify
from hardviews.evaluation.probes.fewshot import Fewshot, evaluate_fewshot
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.evaluation.probes.linear import Linear, evaluate_linear
from hardviews.evaluation.report import markdown_rows, table
from hardviews.evaluation.result import Result
from hardviews.interface.packing import Place
from hardviews.interface.runs import Run

Protocol = Literal["knn", "linear", "fewshot", "classify"]


@dataclass(frozen=True)
class Scored:
    """The outcome of an evaluation; its text and its page in a notebook are the table that the command prints."""

    result: Result

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics of the encoder by name, accuracies in per cent."""
        return dict(self.result.metrics["pretrained"])

    def __repr__(self) -> str:
        console = Console(file=io.StringIO(), width=100, force_jupyter=False, color_system=None)
        with console.capture() as printed:
            console.print(table([self.result]))
        return printed.get().rstrip()

    def _repr_markdown_(self) -> str:
        return "\n".join(markdown_rows(self.result))


def evaluate(run: Place | Run, data: Place, by: Protocol = "knn", **settings: Any) -> Scored:
    """Score the encoder of a run on labelled data, as the command of that name does.

    `by`: nearest neighbours, a linear classifier, few shots, or the run's own classifier. `settings`: settings of the
    command, such as baselines=False.

    Raises:
        UserError: there is no such protocol, or the run or the data cannot be evaluated.
    """
    settings = {"run": run.output if isinstance(run, Run) else str(run), "data": str(data), **settings}
    if by == "knn":
        return Scored(evaluate_knn(Knn(**settings)))
    if by == "linear":
        return Scored(evaluate_linear(Linear(**settings)))
    if by == "fewshot":
        return Scored(evaluate_fewshot(Fewshot(**settings)))
    if by == "classify":
        return Scored(evaluate_classify(Classify(**settings)))
    raise UserError(f"evaluate knows no protocol {by!r}: choose knn, linear, fewshot or classify.")


def compare(*runs: Place | Run, **settings: Any) -> None:
    """Print runs side by side, with the uncertainty of each difference, as `hardviews compare` does.

    Raises:
        UserError: a run is not known or not evaluated.
    """
    outputs = tuple(run.output if isinstance(run, Run) else str(run) for run in runs)
    run_compare(Compare(outputs, **settings))
