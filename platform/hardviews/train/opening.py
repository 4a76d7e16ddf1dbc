"""Opens the tracking run of a training: created once, found again by every later life."""

import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.runs.record import Record
from hardviews.runs.sweep import sweep
from hardviews.runs.where import Where
from hardviews.tracking.failures import MissingRun
from hardviews.tracking.flatten import flatten
from hardviews.tracking.inputs import Context, DatasetUse
from hardviews.tracking.job import OUTPUT
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.runs import close_run
from hardviews.tracking.server import Server
from hardviews.tracking.settings import RESTARTS, setting
from hardviews.train.command_line import CommandLine
from hardviews.train.provenance import tags
from hardviews.train.recipe import Recipe
from hardviews.train.tuning import Tuning
from hardviews.world import World

logger = logging.getLogger(__name__)

_REPORTING = 2.0  # seconds to report a failure


def open_run(
    record: Record,
    new: bool,
    recipe: Recipe,
    where: Where,
    index: Index,
    world: World,
    life: int,
    labelled: Sequence[Index] = (),
    parent: str = "",
    tuning: Tuning | None = None,
) -> tuple[Run, Record]:
    """Start the run, or go on with it, and write the output's record of it; return both.

    `record` is the known part of the run's record. With `new`, the output held no record before; if no run can be made,
    none stays. `labelled` are the datasets of the monitor. `parent` is the tracking run of the encoder that a new run
    begins from. `tuning` are the facts of a fine-tuning.
    """
    first = world.rank == 0 and not record.run_id
    output = absolute(where.output)
    begun = {} if where.init is None else {"hardviews.init": where.init}
    begun |= {} if tuning is None else tuning.tags()
    if first:
        record = replace(record, key=record.key or uuid.uuid4().hex)
        record.write(where.output)
    run_tags = tags(index, recipe, world, first, command_of(recipe, tuning)) | {OUTPUT: output} | begun
    start = partial(
        Run.start,
        recipe.experiment,
        f"{recipe.name} seed {recipe.training.seed}",
        run_id=record.run_id or None,
        folder=where.project,
        rank=world.rank,
        life=life,
        key=record.key or None,
        aside="/".join(output.rstrip("/").split("/")[-2:]),
    )
    try:
        run = _start(start, run_tags, parent if first else "")
    except UserError:
        if first and new:
            Record.remove(where.output)
        raise
    if world.rank == 0:
        if first:
            record = replace(record, run_id=run.run_id)
        record.write(where.output)
        run.use_store(sweep)
        run.log_params(recipe)
        run.log_dict(flatten(recipe), "recipe.json")
        if tuning is not None and tuning.rates is not None:
            rates = tuning.rates
            run.log_table(rates.rows(), "tables/rates.json")
            run.log_text("".join(f"{name}\n" for name in rates.names), "splits/held_out.txt")
            run.log_metrics({"sweep/held_out_top1": rates.chosen.top1}, 0)
        run.log_inputs(
            [training_data(index), *(held_out_data(other) for other in labelled if other.digest != index.digest)]
        )
    return run, record


def command_of(recipe: Recipe, tuning: Tuning | None) -> CommandLine:
    """Return the command of this process; its encoder of a fine-tuning has the name in the record of the run."""
    command = CommandLine.of_this_process(recipe.name)
    return command if tuning is None else command.of_encoder(tuning.encoder)


def _start(start: Callable[..., Run], run_tags: Mapping[str, str], parent: str) -> Run:
    """Start a run below another one, or by itself if the tracking server does not know that one."""
    if not parent:
        return start(tags=run_tags)
    try:
        return start(tags=run_tags, parent=parent)
    except MissingRun as error:
        logger.warning("%s The training is logged as a run of its own.", error)
        return start(tags={**run_tags, "hardviews.pretraining_run": parent})


def report_failure(where: Where) -> None:
    """Set the run in the output to FAILED if a restart inside its own job met a mistake; give up after 2 s.

    A first start may be meant for another output: it changes nothing.
    """
    if (setting(RESTARTS) or "0") == "0":
        return

    def report() -> None:
        with contextlib.suppress(Exception):
            record = Record.read(where.output, _REPORTING)
            if record is not None and record.run_id:
                server = Server.connect(None, Path(where.project).absolute())
                close_run(server, record.run_id, "FAILED", "a restart in its job was refused")

    thread = threading.Thread(target=report, name="tracking-failure", daemon=True)
    thread.start()
    thread.join(_REPORTING)


def absolute(output: str) -> str:
    """Return an output's address in a form that holds everywhere on this machine."""
    return output if "://" in output else os.path.abspath(output)


def training_data(index: Index) -> DatasetUse:
    """Return a dataset as the input of a training; its name is taken from the address, with more than `train`."""
    return _use(index, "training")


def held_out_data(index: Index) -> DatasetUse:
    """Return a labelled dataset of the monitor as an input: nothing is trained on it."""
    return _use(index, "validation")


def _use(index: Index, context: Context) -> DatasetUse:
    parts = [part for part in index.url.split("/") if part]
    name = "/".join(parts[-2:]) if parts[-1] in ("train", "test") else parts[-1]
    classes = len(index.classes) if index.labelled else 0
    return DatasetUse(name, index.digest, absolute(index.url), len(index), classes, context)
