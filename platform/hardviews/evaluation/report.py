"""Evaluations as a table for people: scores of raw pixels, an untrained and a trained encoder."""

import math
import sys
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hardviews.errors import UserError
from hardviews.evaluation.features.sources import Source
from hardviews.evaluation.per_class import class_table
from hardviews.evaluation.result import Result

_NAMES: dict[Source, str] = {
    "pixels": "raw pixels",
    "untrained": "untrained encoder",
    "pretrained": "pretrained encoder",
}


def table(results: Sequence[Result]) -> Table:
    """Return one row for each source of features and one column for each metric that has a heading, in per cent.

    The best value of each column is bold.
    """
    rows: dict[Source, dict[str, float]] = {}
    headings: dict[str, str] = {}
    for result in results:
        headings.update(result.headings)
        for source, metrics in result.metrics.items():
            rows.setdefault(source, {}).update(metrics)
    columns = dict.fromkeys(name for metrics in rows.values() for name in metrics if name in headings)
    precise = bool(columns) and all("/map" in name for name in columns)
    title = "Mean average precision" if precise else "Test accuracy"
    scored = "the classifier" if all(result.name == "classify" for result in results) else "frozen features"
    view = Table(title=f"{title} of {scored} (%)", title_justify="left", box=SIMPLE_HEAD)
    view.add_column("\nfeatures", no_wrap=True)
    for name in columns:
        view.add_column(headings[name], justify="right")
    classes = max((result.classes for result in results), default=0)
    if classes:
        view.add_row("chance", *(_cell(_chance(name, classes), math.inf) for name in columns))
    best = {name: max(metrics.get(name, float("-inf")) for metrics in rows.values()) for name in columns}
    for source in (source for source in _NAMES if source in rows):
        view.add_row(_row_name(source, results[0]), *(_with_std(rows[source], name, best[name]) for name in columns))
    return view


def markdown_rows(result: Result) -> list[str]:
    """Return the rows of one evaluation's table in Markdown, with its headings."""
    columns = list(result.headings)
    lines = ["| features | " + " | ".join(heading.replace("\n", " ") for heading in result.headings.values()) + " |"]
    lines.append("|---" + "|---:" * len(columns) + "|")
    rows = {"chance": {name: _chance(name, result.classes) for name in columns}} if result.classes else {}
    found = [source for source in _NAMES if source in result.metrics]
    rows |= {_row_name(source, result): dict(result.metrics[source]) for source in found}
    lines += [
        f"| {name} | " + " | ".join(f"{row[column]:.1f}" for column in columns) + " |" for name, row in rows.items()
    ]
    return lines


def _row_name(source: Source, result: Result) -> str:
    return result.encoder if source == "pretrained" else _NAMES[source]


def _chance(name: str, classes: int) -> float:
    """Return the accuracy in per cent of a guess among so many classes."""
    guesses = 5 if "top5" in name else 1
    return 100.0 * min(1.0, guesses / classes)


def show(results: Sequence[Result]) -> None:
    """Print the table, and check that all of it was logged; see `check_logged`."""
    announce(*results)
    check_logged(results)


def announce(*results: Result) -> None:
    """Print the table at once, and the remarks on it."""
    console = Console()
    console.print(table(results))
    for result in results:
        if result.per_class:
            console.print(class_table(result.per_class))
    for remark in (remark for result in results for remark in result.remarks):
        print(f"note: {remark}")
    sys.stdout.flush()


def check_logged(results: Sequence[Result]) -> None:
    """Refuse to call an evaluation done whose outcome is not in the tracking store; its scores were printed.

    Raises:
        UserError: saying why, and how the rest is sent.
    """
    missed = [result for result in results if not result.logged]
    if missed:
        reason = missed[0].undelivered or "It did not answer when the evaluation ended."
        raise UserError(
            f"The scores above are not all in the tracking store: run {missed[0].run_id} lacks some. {reason}"
        )


def _with_std(row: Mapping[str, float], name: str, best: float) -> str:
    """Return a number, and behind it the standard deviation over draws if it is a mean."""
    std = row.get(f"{name}_std")
    return _cell(row.get(name), best) + ("" if std is None else f" \u00b1{std:.1f}")


def _cell(value: float | None, best: float) -> str:
    if value is None:
        return ""
    return f"[bold]{value:.1f}[/bold]" if value == best else f"{value:.1f}"
