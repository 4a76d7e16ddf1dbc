"""Checks the places of a run before its job starts, for reasons that would end its processes.

The processes check the same by the same functions when they start. The checks leave no files.
"""

from collections.abc import Iterator
from functools import partial

from hardviews.data.index import Index, NoDataset, check_apart
from hardviews.data.places import waits_for
from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.evaluation.subject import Subject
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.manifest import Damaged, Progress
from hardviews.runs.record import Record, check_same_run
from hardviews.runs.rival import living
from hardviews.runs.where import Where
from hardviews.storage.sight import PATIENCE, reasons, remote, seen
from hardviews.storage.store import check_writable, open_store
from hardviews.train.epoch import epoch_samples
from hardviews.train.labels import check_labels
from hardviews.train.monitor_config import check_held_out
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import without_numbers

SILENCE = 12.0  # seconds in which a life that trains writes its file twice


def look_at_run(where: Where, recipe: Recipe, here: bool = False) -> Iterator[str]:
    """Yield the reasons why a run cannot begin or go on in its places.

    `here` is whether its processes run on this machine and use its folders. They themselves wait for another job that
    trains the run.

    Raises:
        Unseen: a place cannot be seen from here.
    """
    index, refused = None, False
    if here or remote(where.data):
        try:
            index = seen(lambda: _train_part(where.data))
            where.check_apart(index.url)
            _check_size(index, recipe)
        except NoDataset as error:
            refused = not where.wait
            yield waits_for(where.data, where.wait) if where.wait else str(error)
        except UserError as error:
            refused = True  # perhaps for its place, which is then not checked again
            yield str(error)
    if recipe.monitor.data is not None and (here or remote(recipe.monitor.data)):
        yield from reasons(partial(_check_monitor, recipe, index))
    if here:
        local = [(name, url) for name, url in where.written() if not remote(url)]
        for name, url in local:
            yield from reasons(partial(check_writable, name, url))
    elif not remote(where.output):
        return
    try:
        seen(lambda: open_store(where.output, PATIENCE).files())
        if not refused:
            seen(lambda: check_apart("output", where.output, PATIENCE))
        before = seen(lambda: Record.read(where.output, PATIENCE))
        progress = seen(lambda: _newest(where.output))
        known = before.dataset if before is not None else progress.dataset if progress is not None else ""
        now = Record("", recipe.name, recipe.settings(), known if index is None else index.digest, data=where.data)
        check_same_run(where.output, before, now, progress, recipe.digest(), None, where.accept_changes)
    except UserError as error:
        yield str(error)
        return
    if here:
        return
    life = seen(lambda: living(where.output, PATIENCE, SILENCE))
    if life is not None and not life.leaving:
        yield (
            f"The run in {where.output} is being trained by another job{f' ({life.job})' if life.job else ''}: its "
            f"life {life.number} on {life.host} has reached step {life.reached}. Wait for that job, cancel it, or give "
            "another --output."
        )


def look_at_finetuning(where: Where, here: bool = False) -> Iterator[str]:
    """Yield the reasons why a fine-tuning cannot find its dataset or its encoder, or cannot write.

    `here` is whether its processes run on this machine. The job itself checks whether it can go on from its output,
    which depends on the encoder.
    """
    if here or remote(where.data):
        try:
            seen(lambda: _train_part(where.data))
        except NoDataset as error:
            yield waits_for(where.data, where.wait) if where.wait and not here else str(error)
        except UserError as error:
            yield str(error)
    init = where.init
    if init is not None and (here or remote(init)) and Subject(encoder=init).waits:
        yield from reasons(lambda: _encoder_there(init))
    if here or remote(where.output):
        yield from reasons(lambda: check_writable("output", where.output, PATIENCE))


def _encoder_there(place: str) -> None:
    if not open_store(place, PATIENCE).files():
        raise UserError(f"There is no encoder at {place}: give the output of a pretraining, or an encoder's file.")


def _train_part(data: str) -> Index:
    """Return the index at a URL, or of the `train` dataset in the folder at that URL, without its table."""
    try:
        return Index.head(data, PATIENCE)
    except NoDataset:
        try:
            return Index.head(f"{data.rstrip('/')}/train", PATIENCE)
        except NoDataset:
            pass
        raise


def _check_size(index: Index, recipe: Recipe) -> None:
    samples = epoch_samples(Reader(index, recipe.loader.reader), recipe.training)
    objective = without_numbers(recipe)
    if objective is not None:
        check_labels(objective.method, index, whole=False)
        objective.method.allocate(len(index))
        objective.method.check_epoch(samples)


def _check_monitor(recipe: Recipe, training: Index | None) -> None:
    datasets = recipe.monitor.datasets(PATIENCE)
    if datasets is not None and training is not None:
        check_held_out(datasets[1], training)


def _newest(output: str) -> Progress | None:
    """Return the numbers of the newest checkpoint, None if there is none."""
    checkpoints = Checkpoints(output, patience=PATIENCE)
    for name in checkpoints.names():
        try:
            manifest = checkpoints.manifest(name)
        except Damaged:
            continue
        if manifest is not None:
            return manifest.progress
    return None
