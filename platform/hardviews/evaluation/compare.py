"""`hardviews compare RUN...`: evaluations side by side, with the uncertainty of each difference.

The others are compared with the first run, or the first group of runs that differ only in their seed.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hardviews.errors import UserError
from hardviews.evaluation import statistics
from hardviews.evaluation.predictions import FILE, correct_of
from hardviews.evaluation.statistics import Correct
from hardviews.foreign.record import read_account
from hardviews.runs.record import Record
from hardviews.storage.url import check_here
from hardviews.tracking.failures import unusable
from hardviews.tracking.server import Server
from hardviews.tracking.settings import TRACKING_URI, setting

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

Evaluations = dict[tuple[str, str], "MlflowRun"]
"""Runs by protocol and digest of the test set."""

_EVALUATION, _TEST = "hardviews.evaluation", "hardviews.dataset.test"
# Parameters in which runs of one group may differ.
_SEED = ("training.seed", "seed", "run", "output", "project")


@dataclass(frozen=True)
class Compare:
    """Compares runs by their evaluations on the same test sets.

    Attributes:
        runs: outputs of pretrainings or imports (paths or URLs), or ids of MLflow runs: of these or of evaluations.
        protocol: name of an evaluation, for example knn or linear; by default all evaluations that all runs have.
        project: folder of the tracking record, if MLFLOW_TRACKING_URI names no server.
        seed: seed of the permutation test.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    protocol: str | None = None
    project: str = ".hardviews"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse to compare a run with nothing."""
        check_here(project=self.project)
        if len(self.runs) < 2:
            raise UserError("Compare: name two runs or more: hardviews compare runs/a runs/b")


@dataclass(frozen=True, eq=False)
class Judged:
    """One evaluation: its name for people, the settings that make a group, and which test samples were right."""

    name: str
    settings: tuple[tuple[str, str], ...]
    seed: str
    correct_M: Correct


def run_compare(config: Compare) -> None:
    """Print a table for each protocol and each test set that all runs were evaluated on.

    Raises:
        UserError: a run is not known or not evaluated, or no test set is common to all of them.
    """
    server = Server.connect(None, Path(config.project).absolute())
    try:
        found = [_evaluations(server, run) for run in config.runs]
    except UserError:
        raise
    except Exception as error:
        raise unusable(server.uri, error, own=setting(TRACKING_URI) is None) from error
    protocols = [list(dict.fromkeys(protocol for protocol, _ in one)) for one in found]
    shared = [name for name in protocols[0] if all(name in other for other in protocols)]
    wanted = [config.protocol] if config.protocol else shared
    lacking = [number for number, one in enumerate(protocols) if any(name not in one for name in wanted)]
    if not wanted or lacking:
        number = lacking[0] if lacking else min(range(len(found)), key=lambda number: len(protocols[number]))
        missing = config.protocol or "an evaluation that all of them have"
        raise UserError(
            f"Compare: {config.runs[number]} lacks {missing} (has {', '.join(protocols[number]) or 'none'}). Evaluate "
            "it, for example with: hardviews knn --run OUTPUT --data DATA"
        )
    console = Console()
    for name in wanted:
        sets, others = _sets(name, found)
        if not sets:
            raise UserError(
                f"Compare: the {name} evaluations are on different test sets: {', '.join(others)}. Evaluate all runs "
                "on one, and compare again."
            )
        for test in sets:
            judged = [_judged(server, evaluations[name, test]) for evaluations in found]
            console.print(table(title(found[0][name, test]), judged, config.seed))
        for one in others:
            console.print(f"{one} is left out: not all runs have it.", markup=False, highlight=False, soft_wrap=True)


def _sets(protocol: str, found: Sequence[Evaluations]) -> tuple[list[str], list[str]]:
    """Return the digests of the test sets on which all runs have an evaluation, and the titles of the other ones."""
    every = dict.fromkeys(test for one in found for name, test in one if name == protocol)
    shared = [test for test in every if all((protocol, test) in one for one in found)]
    others = []
    for test in every:
        if test not in shared:
            run = next(one[protocol, test] for one in found if (protocol, test) in one)
            others.append(f"{title(run)} (digest {test[:12]})")
    return shared, others


def title(evaluation: "MlflowRun") -> str:
    """Return an evaluation's protocol and data set, as its run is named: `transfer pets/test`."""
    return str(evaluation.info.run_name or evaluation.data.tags[_EVALUATION])


def table(name: str, judged: Sequence[Judged], seed: int = 0) -> Table:
    """Return a row for each group of runs; the others are compared with the first.

    `name`: name of the evaluation, for the title.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Judged]] = {}
    for one in judged:
        groups.setdefault(one.settings, []).append(one)
    view = Table(
        title=f"{name}: top-1 on {len(judged[0].correct_M)} test images (%)", title_justify="left", box=SIMPLE_HEAD
    )
    for heading in ("run", "seeds", "top-1", "95 %", "difference", "95 %", "p", ""):
        view.add_column(heading, justify="left" if heading in ("run", "") else "right")
    first = next(iter(groups.values()))
    for number, group in enumerate(groups.values()):
        view.add_row(group[0].name, str(len(group)), *_score(group), *(_against(group, first, seed) if number else ()))
    return view


def _score(group: Sequence[Judged]) -> tuple[str, str]:
    if len(group) == 1:
        one = statistics.accuracy(group[0].correct_M)
        return f"{one.value:.2f}", f"{one.low:.2f} to {one.high:.2f}"
    mean = statistics.over_seeds([100 * one.correct_M.mean() for one in group])
    return f"{mean.value:.2f}", f"std {mean.deviation:.2f}"


def _against(group: Sequence[Judged], first: Sequence[Judged], seed: int) -> tuple[str, str, str, str]:
    """Return difference, interval, p-value and verdict of a group against the first."""
    means = [[100 * float(one.correct_M.mean()) for one in several] for several in (group, first)]
    of_seeds = statistics.difference_of_means(*means)
    if of_seeds is not None:
        verdict = _verdict(of_seeds.holds_zero, "between seeds")
        return f"{of_seeds.value:+.2f}", f"{of_seeds.low:+.2f} to {of_seeds.high:+.2f}", "", verdict
    difference = statistics.paired_difference(group[0].correct_M, first[0].correct_M)
    p = statistics.paired_permutation(group[0].correct_M, first[0].correct_M, seed)
    verdict = _verdict(difference.holds_zero or p > 0.05, "on these images; seeds may differ more")
    return f"{difference.value:+.2f}", f"{difference.low:+.2f} to {difference.high:+.2f}", f"{p:.4f}", verdict


def _verdict(nothing: bool, scope: str) -> str:
    return "no difference shown" if nothing else f"differs {scope}"


def _evaluations(server: Server, run: str) -> Evaluations:
    """Return the newest finished evaluation of each protocol on each test set."""
    run_id = run
    if not re.fullmatch(r"[0-9a-f]{32}", run):
        record = Record.read(run)
        known = record.run_id if record is not None else (read_account(run) or {}).get("run_id")
        if not known:
            raise UserError(
                f"Compare: there is no run at {run}. Give the output of a pretraining or import, or an MLflow run id."
            )
        run_id = str(known)
    given = server.find(run_id)
    if _EVALUATION in given.data.tags:
        return {_kind(given): given}
    children = server.client.search_runs(
        [given.info.experiment_id],
        f"tags.`mlflow.parentRunId` = '{run_id}' AND attributes.status = 'FINISHED'",
        order_by=["attributes.start_time ASC"],
    )
    return {_kind(child): child for child in children if _EVALUATION in child.data.tags}


def _kind(evaluation: "MlflowRun") -> tuple[str, str]:
    tags = evaluation.data.tags
    return tags[_EVALUATION], tags.get(_TEST, "")


def _judged(server: Server, evaluation: "MlflowRun") -> Judged:
    import mlflow.artifacts

    if any("/map" in name for name in evaluation.data.metrics):
        raise UserError(
            f"Compare: the evaluation {evaluation.info.run_id} is on images that may have several classes each. Its "
            "mean average precision is not a mean over images, so the paired tests do not hold. Compare the pages of "
            "the runs."
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = mlflow.artifacts.download_artifacts(
                run_id=evaluation.info.run_id, artifact_path=FILE, dst_path=folder, tracking_uri=server.uri
            )
            correct_M = correct_of(Path(path).read_text())
        except (OSError, ValueError, IndexError) as error:
            raise UserError(
                f"Compare: the evaluation {evaluation.info.run_id} has no {FILE} that can be read ({error}). Evaluate "
                "the run again with this version."
            ) from error
    parent = evaluation.data.tags.get("mlflow.parentRunId")
    run = evaluation if parent is None else server.find(parent)
    parameters: Mapping[str, str] = run.data.params
    settings = tuple(sorted((key, value) for key, value in parameters.items() if key not in _SEED))
    seed = parameters.get("training.seed", "")
    return Judged(str(run.info.run_name), settings, seed, correct_M)
