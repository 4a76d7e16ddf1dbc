"""`hardviews health`: is a run healthy? The verdict on it with its evidence, and the figures that it was judged by."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hardviews.checked import OPTION, require, within
from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.evaluation.checks import check_crop, choose_device
from hardviews.evaluation.monitoring.online import PREFIX as ONLINE
from hardviews.evaluation.monitoring.specimens import VIEWS, Specimens
from hardviews.health.course import Course
from hardviews.health.figures import PREFIX, figures
from hardviews.health.verdict import Verdict, verdict
from hardviews.models.encoder import Encoder, load
from hardviews.models.encoder_files import DESCRIPTION
from hardviews.progress import progress
from hardviews.runs.history import read_rows
from hardviews.runs.life import read_lives
from hardviews.runs.nonfinite import recorded
from hardviews.runs.where import open_dataset
from hardviews.storage.store import open_store
from hardviews.storage.url import check_given
from hardviews.views.augmentation import mocov2

_BATCH = 128
_BEHIND = "projector/"  # follows the prefix of figures behind the projector
_SHOWN = ("loss", "spread")  # beside those with a prefix


@dataclass(frozen=True)
class Health:
    """Says whether runs are healthy; the exit code is 1 if one of them is not.

    Attributes:
        runs: outputs of pretrainings, folders or URLs; with `data` also exported encoders.
        data: packed dataset, or folder with one named `train`: the exported encoder is measured on its images.
        images: of `data` at most.
        device: device of the measurement; `auto` takes a GPU if there is one.
        json: print the report as JSON.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    data: str | None = None
    images: int = 4096
    device: Literal["auto", "cpu", "cuda"] = "auto"
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse places that are not named, and too few images."""
        if not self.runs:
            raise UserError("Say which run: hardviews health RUN, the --output of its training.")
        for run in self.runs:
            check_given(run=run)
        check_given(data=self.data)
        require(self, OPTION, images=within(2, 2**20))


@dataclass(frozen=True)
class Report:
    """The known facts of a run.

    Attributes:
        run: its output.
        verdict: on it; None for an encoder without the run that it came from.
        step: step of the last report.
        first, last: figures by name, as first and as last measured.
        measured: figures of the exported encoder on data that was given.
    """

    run: str
    verdict: Verdict | None
    step: int
    first: Mapping[str, float]
    last: Mapping[str, float]
    measured: Mapping[str, float]


def run_health(config: Health) -> bool:
    """Print a report on each run, and return whether all of them are healthy.

    Raises:
        UserError: there is no run, or it cannot be read.
    """
    reports = [report(run, config) for run in config.runs]
    if config.json:
        print(json.dumps([_to_json(found) for found in reports], indent=1))
    else:
        for found in reports:
            _show(found)
    return not any(found.verdict is not None and found.verdict.alarming for found in reports)


def report(run: str, config: Health) -> Report:
    """Return the known facts of a run, and of its encoder on given data.

    Raises:
        UserError: as `run_health`.
    """
    rows = read_rows(run)
    if not rows and config.data is None:
        raise UserError(
            f"No report of a training is at {run}. Give the --output of `hardviews pretrain`, or --data to measure an "
            "exported encoder."
        )
    course, first = Course(rows), Course()
    for row in rows:
        first.add({key: value for key, value in row.items() if key in ("step", "samples") or not first.of(key)})
    return Report(
        run,
        judge(run, course) if rows else None,
        course.step,
        {name: first.of(name)[0].value for name in _names(course)},
        {name: point.value for name in _names(course) if (point := course.last(name))},
        {} if config.data is None else measure(load(run), config),
    )


def judge(run: str, course: Course) -> Verdict:
    """Return the verdict on a run at a path or URL, of whose metrics the course is known."""
    finished = open_store(run).inside("encoder").size(DESCRIPTION) is not None
    if not finished:
        lives = read_lives(run)
        finished = bool(lives) and lives[-1].end == "finished"
    broken = recorded(run)
    # One that the run has passed since, with other settings, says nothing of it.
    stopped = not finished and broken is not None and broken >= course.step
    return verdict(course, finished, f"The loss is not finite at step {broken}." if stopped else "")


def measure(encoder: Encoder, config: Health) -> dict[str, float]:
    """Return the figures of an encoder on images of a dataset, by name.

    The views are drawn as MoCo-v2's: an exported encoder does not say which ones it was trained on.

    Raises:
        UserError: the dataset is not there, or an image of it cannot be read.
    """
    assert config.data is not None
    encoder = encoder.to(choose_device(config.device)).to(memory_format=torch.channels_last)
    check_crop(encoder, encoder.image_size)
    specimens = Specimens(Reader(open_dataset(config.data)), mocov2(encoder.image_size), config.images)
    places = range(len(specimens))
    parts = [
        encoder.embed(specimens.pixels(places[start : start + _BATCH]))
        for start in progress(places[::_BATCH], len(places[::_BATCH]), "health")
    ]
    specimens.close()
    values_MD = torch.cat(parts)
    views_NQD = values_MD[specimens.place("views")].unflatten(0, (-1, VIEWS))
    found = figures(values_MD[specimens.place("images")], views_NQD)
    return {f"{PREFIX}{name}": value for name, value in found.items()}


def _names(course: Course) -> list[str]:
    return [*(name for name in _SHOWN if course.of(name)), *sorted(course.prefixed(PREFIX, ONLINE))]


def _show(found: Report) -> None:
    console = Console()
    if found.verdict is not None:
        console.print(f"{found.run}: {found.verdict.kind}", markup=False, highlight=False, soft_wrap=True)
        for sentence in found.verdict.evidence:
            console.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)
    console.print(_table(found))


def _table(found: Report) -> Table:
    """Return the figures, a row for each, with columns for the features, the projector's features, and given data."""
    columns = {
        "first": ("", found.first),
        "last": ("", found.last),
        "projector\nfirst": (_BEHIND, found.first),
        "projector\nlast": (_BEHIND, found.last),
        "on\n--data": ("", found.measured),
    }
    names = [name for name in {**found.last, **found.measured} if not name.startswith(f"{PREFIX}{_BEHIND}")]
    rows = {name: [_cell(values, name, inner) for inner, values in columns.values()] for name in names}
    kept = [number for number in range(len(columns)) if any(cells[number] for cells in rows.values())]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("\nfigure", no_wrap=True)
    for number in kept:
        heading = list(columns)[number]
        table.add_column(heading if "\n" in heading else f"\n{heading}", justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(name, *(cells[number] for number in kept))
    return table


def _cell(values: Mapping[str, float], name: str, inner: str) -> str:
    """Return a figure as text, empty if it was not measured; `inner` stands between the prefix and the name."""
    if inner:
        name = f"{PREFIX}{inner}{name.removeprefix(PREFIX)}" if name.startswith(PREFIX) else ""
    return f"{values[name]:.3g}" if name in values else ""


def _to_json(found: Report) -> dict[str, Any]:
    known = asdict(found)
    known["verdict"] = None if found.verdict is None else found.verdict.kind
    known["evidence"] = [] if found.verdict is None else list(found.verdict.evidence)
    return known
