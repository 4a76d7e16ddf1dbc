"""The known facts about an encoder: from its file, the output of its run, and the tracking record."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardviews.errors import UserError
from hardviews.evaluation.monitoring.health import judge
from hardviews.foreign.record import sentence
from hardviews.health.course import Course
from hardviews.models.encoder import Encoder
from hardviews.runs.history import read_rows
from hardviews.runs.life import Life, read_lives
from hardviews.runs.record import Record
from hardviews.storage.failures import Denied
from hardviews.tracking.scrub import scrub
from hardviews.tracking.server import Server
from hardviews.tracking.settings import TRACKING_URI, setting

logger = logging.getLogger(__name__)

# Accuracies of a choice. Those of held-out samples, or chosen on the test data, are not scores.
_ACCURACY = re.compile(r"/top\d+(_k\d+|_without_copies)?$")
_COMMIT = "mlflow.source.git.commit"
_EVIDENCE = "hardviews.verdict.evidence"


@dataclass(frozen=True)
class Score:
    """A number of an evaluation: its name, the value, and the digest of the test data."""

    name: str
    value: float
    test: str


@dataclass(frozen=True)
class Facts:
    """All that is known about the training of an encoder; None or empty for the unknown.

    Attributes:
        recipe: name of the recipe.
        imported: origin of the weights in a sentence, if they were imported.
        settings: settings of the recipe, by name on the command line.
        data_name: last part of the dataset's address.
        data_digest: digest of the dataset.
        images: number of images in the dataset.
        samples: number of images seen, repeated ones counted again.
        epochs: passes over the dataset.
        commit: commit of the code that trained.
        versions: versions of packages that trained, by name.
        run_id: id of the tracking run.
        verdict: how the run ended, in a sentence.
        health: the verdict on its representation, with the evidence.
        scores: scores of evaluations of this very encoder.
        looked: whether the tracking record was read; without it, evaluations are unknown.
    """

    recipe: str | None = None
    imported: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    data_name: str | None = None
    data_digest: str | None = None
    images: int | None = None
    samples: int | None = None
    epochs: str | None = None
    commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    run_id: str | None = None
    verdict: str | None = None
    health: str | None = None
    scores: tuple[Score, ...] = ()
    looked: bool = False


def collect(encoder: Encoder, run: str, project: str) -> Facts:
    """Return the facts about an encoder.

    `run`: as `models.encoder.load` takes it. `project`: folder of the tracking record, if MLFLOW_TRACKING_URI is not
    set.
    """
    source = encoder.provenance
    record = _read_record(run)
    tags, scores, looked = _tracked(encoder, Path(project).absolute())
    settings = {} if record is None else dict(record.settings)
    images = source.get("images") or tags.get("hardviews.samples")
    version = tags.get("hardviews.version")
    return Facts(
        recipe=source.get("recipe") or (record.recipe if record else None),
        imported=sentence(source),
        settings=settings,
        data_name=_last_part(record.data) if record and record.data else None,
        data_digest=source.get("data") or (record.dataset if record else None),
        images=int(images) if images else None,
        samples=source.get("samples"),
        epochs=str(source["epochs"]) if source.get("epochs") else settings.get("training.epochs"),
        commit=tags.get(_COMMIT) or source.get("commit"),  # the tag was written first, when the run began
        versions=source.get("versions") or ({"hardviews": version} if version else {}),
        run_id=source.get("run_id"),
        verdict=None if record is None else _verdict(run),
        health=(None if record is None else _health(run)) or tags.get(_EVIDENCE),
        scores=scores,
        looked=looked,
    )


def _read_record(run: str) -> Record | None:
    """Return the record of the run, None if the encoder does not lie in the output of a run."""
    if run.endswith(".safetensors"):
        return None
    try:
        return Record.read(run)
    except Denied:
        return None  # S3 denies files that are not there, if the right to list is missing


def _last_part(address: str) -> str:
    """Return the name of a dataset from its address: the part of the path that says which it is."""
    parts = [part for part in address.split("/") if part]
    if len(parts) > 1 and parts[-1] == "train":
        parts.pop()
    return scrub(parts[-1]) if parts else address


def _verdict(run: str) -> str | None:
    lives = read_lives(run)
    return _ended(lives[-1], len(lives)) if lives else None


def _health(run: str) -> str | None:
    """Return the verdict on a run by its reports, None if it has none that can be read."""
    try:
        rows = read_rows(run)
        return judge(run, Course(rows)).text() if rows else None
    except UserError as error:
        logger.warning("the reports of the run cannot be read, so the card lacks its health: %s", error)
        return None


def _ended(last: Life, count: int) -> str:
    starts = "once" if count == 1 else f"{count} times"
    end = "not known to have ended" if last.end is None else last.end
    return f"{end.capitalize()} at step {last.reached}; started {starts}."


def _tracked(encoder: Encoder, project: Path) -> tuple[Mapping[str, str], tuple[Score, ...], bool]:
    """Return the tags of the pretraining run, the scores of this encoder, and whether the record was read."""
    if setting(TRACKING_URI) is None and not (project / "mlflow.db").exists():
        return {}, (), False
    try:
        server = Server.connect(None, project)
        return _tags(server, encoder), _scores(server, encoder.digest), True
    except Exception as error:  # MLflow's errors are many, and an export does not need the record
        reason = str(error) if isinstance(error, UserError) else type(error).__name__
        logger.warning("the tracking record could not be read, so the card lacks its scores: %s", reason)
        return {}, (), False


def _tags(server: Server, encoder: Encoder) -> Mapping[str, str]:
    run_id = encoder.provenance.get("run_id")
    if not run_id:
        return {}
    try:
        found: Mapping[str, str] = server.find(run_id).data.tags
    except UserError:
        return {}
    return found


def _scores(server: Server, digest: str) -> tuple[Score, ...]:
    """Return the accuracies of all evaluations of the encoder with this digest; of one repeated, the latest."""
    experiments = [found.experiment_id for found in server.client.search_experiments()]
    runs: list[Any] = server.client.search_runs(
        experiments, f"tags.`hardviews.encoder` = '{digest}'", order_by=["attributes.start_time ASC"]
    )
    found: dict[tuple[str, str], Score] = {}
    for run in runs:
        test = run.data.tags.get("hardviews.dataset.test", "")
        for name, value in run.data.metrics.items():
            if _ACCURACY.search(name):
                found[name, test] = Score(name, value, test)
    return tuple(sorted(found.values(), key=_place))


def _place(score: Score) -> tuple[str, bool, list[tuple[int, str]]]:
    """Return the place of a score in the table: baselines last, and numbers inside a name by size."""
    parts = re.findall(r"\d+|\D+", score.name)
    return score.test, "/" in score.name, [(int(part), "") if part.isdigit() else (0, part) for part in parts]
