"""The identity of the run in an output folder: `run.json`, written when the run begins."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hardviews.errors import UserError
from hardviews.runs.manifest import Progress
from hardviews.storage.store import open_store

_NAME = "run.json"
USUAL = "pretrained"
"""Kind of training of an encoder if nothing else is known."""
_SUPERVISED = "SupervisedConfig"  # the method of a training by labels, in the settings
# These settings determine the order of the samples, which must stay the same inside an epoch.
_ORDER = ("training.batch", "training.group", "training.seed", "loader.reader.streams", "loader.reader.window")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """A run's tracking id, recipe, settings and dataset.

    Attributes:
        run_id: id in the tracking.
        recipe: name of the recipe.
        settings: every setting that the weights depend on.
        dataset: digest of the dataset.
        key: name of the run until its tracking id is known; without it, a life that ends before it notes the id would
            leave a second run behind.
        data: place of the dataset when the run was last started; it may have moved.
        encoder: description of the encoder that the run exports (`models.encoder.architecture`). Its key `within` holds
            the prefix of its weights' names in a checkpoint. A `classifier` has its own prefix there, and the names of
            its classes. Empty in the records of older versions.
        source: for a fine-tuning, the encoder that it began with: its digest, run_id, recipe and place; and the labels.
    """

    run_id: str
    recipe: str
    settings: Mapping[str, str]
    dataset: str
    key: str = ""
    data: str = ""
    encoder: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)

    @property
    def training(self) -> str:
        """Return in one word how the encoder was trained: fine-tuned, supervised or pretrained."""
        if self.source:
            return "fine-tuned"
        return "supervised" if self.settings.get("method") == _SUPERVISED else USUAL

    @staticmethod
    def read(output: str, patience: float | None = None) -> "Record | None":
        """Return the record in a folder, at a path or URL, None if no run began there.

        Raises:
            UserError: the file is not the record of a run, or cannot be read.
        """
        store = open_store(output, patience)
        try:
            return Record(**json.loads(store.read(_NAME)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{store.name(_NAME)} is damaged or not the record of a run ({type(error).__name__}). Give another "
                "--output, or remove it to begin a new tracking run from the checkpoints beside it."
            ) from error

    def write(self, output: str) -> None:
        """Write the record; it appears whole or not at all."""
        open_store(output).write(_NAME, json.dumps(asdict(self), indent=1).encode())

    def keep(self, output: str, patience: float | None = None) -> None:
        """Write the record again, with a warning, if it is gone from the folder that it was written to.

        Raises:
            UserError, OSError: the folder cannot be read or written.
        """
        store = open_store(output, patience)
        if store.size(_NAME) is not None:
            return
        store.write(_NAME, json.dumps(asdict(self), indent=1).encode())
        logger.warning(
            "%s was gone and is written again: the output was removed while the run trains. Older checkpoints are lost",
            store.name(_NAME),
        )

    @staticmethod
    def remove(output: str) -> None:
        """Remove the record, and the folder if it was made for it."""
        store = open_store(output)
        store.remove(_NAME)
        store.remove_if_empty()


def check_same_run(
    output: str,
    before: Record | None,
    now: Record,
    progress: Progress | None,
    digest: str,
    misfit: str | None,
    accept: bool,
) -> None:
    """Refuse to go on with a run of another dataset or recipe; `accept` allows other settings.

    Args:
        output: output of the run.
        before: record in the folder, if any.
        now: record of this run.
        progress: numbers of its checkpoint, if any.
        digest: digest of this recipe.
        misfit: the writer of the checkpoint in words, if this recipe cannot go on from it.
        accept: go on with other settings.

    Raises:
        UserError: something differs; the message names it.
    """
    anew = "to begin anew, give another --output."
    datasets = {known.dataset for known in (before, progress) if known is not None}
    if datasets - {now.dataset}:
        raise UserError(
            f"{output} holds a run on another dataset ({min(datasets - {now.dataset})[:12]}, now {now.dataset[:12]}). "
            f"To continue it, give the data it was begun with; {anew}"
        )
    changed = {} if before is None else _changes(before.settings, now.settings)
    if not changed and (progress is None or progress.recipe == digest):
        return
    diff = "; ".join(f"{key} was {old}, now {new}" for key, (old, new) in changed.items()) or "its record is missing"
    fixed = [key for key in changed if key in _ORDER]
    if progress is not None and fixed:
        raise UserError(
            f"{output} holds a run that began with other settings: {diff}. {', '.join(fixed)} cannot change inside a "
            f"run, since the order of the samples depends on it. To continue the run, set it as it was; {anew}"
        )
    if progress is not None and "optimizer.name" in changed:
        # Also if both keep entries of one name: the meaning may differ.
        misfit = misfit or "another optimizer"
    if misfit:
        raise UserError(
            f"{output} holds a run of another recipe or other settings: {diff}. Its checkpoint is of {misfit}: "
            f"no run can go on from it with these settings. To continue it, use those that it was begun with; {anew}"
        )
    if not accept:
        raise UserError(
            f"{output} holds a run of another recipe or other settings: {diff}. To continue it, use the settings that "
            f"it was begun with, or say --accept-changes to go on with these; {anew}"
        )


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the settings that differ, old and new; of a part with another kind, the kind alone."""
    keys = list(dict.fromkeys([*old, *new]))
    changed = {key: (old.get(key, "-"), new.get(key, "-")) for key in keys if old.get(key) != new.get(key)}
    return {
        key: both
        for key, both in changed.items()
        if not any(f"{key}.".startswith(f"{k}.") for k in changed if k != key)
    }
