"""The MLflow run of an evaluation: a child of the training's run, and one run for all starts of one command."""

import hashlib
import json
import logging
from dataclasses import asdict
from functools import partial

from hardviews.data.index import Index
from hardviews.elastic.environment import launched
from hardviews.elastic.identity import job_name
from hardviews.evaluation.record import data_name
from hardviews.evaluation.scoring import Scoring
from hardviews.models.encoder import Encoder
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.manifest import Damaged
from hardviews.tracking.failures import MissingRun
from hardviews.tracking.job import JOB, JOB_TAG, USER, job_tags, user
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.settings import setting
from hardviews.world import World

logger = logging.getLogger(__name__)


def checkpoint_tags(run: str, encoder: Encoder) -> dict[str, str]:
    """Return name and digest of the checkpoint that the encoder was exported from, if it is still there."""
    checkpoints = Checkpoints(run)
    for name in checkpoints.names():
        try:
            manifest = checkpoints.manifest(name)
        except Damaged:
            continue
        if manifest is not None and manifest.progress.samples == encoder.provenance.get("samples"):
            digest = hashlib.sha256(manifest.encode()).hexdigest()
            return {"hardviews.checkpoint": name, "hardviews.checkpoint.digest": digest}
    return {}


def open_run(config: Scoring, name: str, encoder: Encoder, test: Index, world: World) -> tuple[Run, str | None]:
    """Open the evaluation's run; return it and the id of the training's run that it is a child of."""
    parent = encoder.provenance.get("run_id")
    label = config.label
    tags = {"hardviews.evaluation": name, **job_tags()}
    if label.name:
        tags |= {"hardviews.evaluation": f"{name} {label.tag}", "hardviews.protocol": label.tag}
    source = f"hardviews {label.title(name)}"
    tags |= {USER: user(), "mlflow.source.name": source, "mlflow.source.type": "JOB" if JOB_TAG in tags else "LOCAL"}
    # Started again after it was killed, a job or a command goes on in the run that it began.
    job = job_name() if launched().ours else setting(JOB)
    what = tags["hardviews.evaluation"]
    key = f"{job} {what} of {encoder.digest} on {test.digest}" if job else _command_key(config, name, encoder, test)
    start = partial(
        Run.start,
        config.experiment,
        f"{label.title(name)} {data_name(test)}{'' if config.run else f', {config.called(encoder)}'}",
        folder=config.project,
        key=key,
        broken_off=not job,
        rank=world.rank,
    )
    try:
        return start(parent=parent, tags=tags), parent
    except MissingRun as error:
        logger.warning("%s The evaluation is logged as a run of its own.", error)
        return start(tags=tags | {"hardviews.pretraining_run": str(parent)}), None


def _command_key(config: Scoring, name: str, encoder: Encoder, test: Index) -> str:
    """Return a text that is equal in all starts of one command without a job, on the same encoder and data."""
    words = json.dumps([name, asdict(config), encoder.digest, test.digest], sort_keys=True, default=str)
    return hashlib.sha256(words.encode()).hexdigest()
