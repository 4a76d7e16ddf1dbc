"""Wait for things that other jobs make: a packed dataset, the encoder or a checkpoint of a run.

Nothing here imports torch. On a cluster a small process waits, and the pods with GPUs start when everything exists.
"""

import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from hardviews.data.address import is_unpacked
from hardviews.data.index import is_dataset
from hardviews.elastic.worker import advanced
from hardviews.errors import UserError
from hardviews.models.encoder_files import DESCRIPTION, WEIGHTS
from hardviews.runs.life import Life, read_lives
from hardviews.runs.manifest import CHECKPOINTS, MANIFEST, is_checkpoint
from hardviews.storage.failures import Denied, Unreachable
from hardviews.storage.patience import TRAINING
from hardviews.storage.store import Store, open_store
from hardviews.storage.url import local_path

logger = logging.getLogger(__name__)

POLL = 5.0  # seconds between looks
EVERY = 60.0  # seconds between messages


class Awaited(ABC):
    """A thing that another job makes."""

    name: str  # "the encoder of RUN"

    @abstractmethod
    def there(self) -> bool:
        """Return whether it exists, complete."""

    @abstractmethod
    def state(self) -> str:
        """Return its progress in a few words.

        Raises:
            UserError: it will never exist.
        """

    @abstractmethod
    def missed(self, seconds: float) -> str:
        """Return the message that it did not come in time."""


class Dataset(Awaited):
    """A packed dataset, or all named parts of one.

    `url` is as for `--data`; its parts lie in folders below it, or beside it if it is the part `train` itself.
    """

    def __init__(self, url: str, parts: Sequence[str] = ("train",)) -> None:
        """Name the place."""
        self.name = f"the packed dataset at {url}"
        self._url, self._parts = url.rstrip("/"), tuple(parts)

    def there(self) -> bool:
        return not self._missing()

    def state(self) -> str:
        return f"{' and '.join(self._missing())} {'is' if len(self._missing()) == 1 else 'are'} not there yet"

    def missed(self, seconds: float) -> str:
        return (
            f"There is no packed dataset at {self._url}, and none came within {seconds:g} s: {self.state()}. Pack it "
            "by `hardviews pack`, or wait longer with --wait."
        )

    def _missing(self) -> list[str]:
        if is_dataset(self._url, TRAINING):
            folder, _, name = self._url.rpartition("/")
            parts = [part for part in self._parts if part != "train"] if name == "train" else []
            return [f"{folder}/{part}" for part in parts if not is_dataset(f"{folder}/{part}", TRAINING)]
        places = [f"{self._url}/{part}" for part in self._parts]
        return [place for place in places if not is_dataset(place, TRAINING)]


class EncoderOfRun(Awaited):
    """The encoder of a run that is still being trained, or any checkpoint of it.

    `run` is as in `models.encoder.load`. With `checkpoint`, a checkpoint of the run is enough. A failure from before
    the wait is not taken for the end: the run may be about to start again.
    """

    def __init__(self, run: str, checkpoint: bool = False) -> None:
        """Name the run."""
        self.name = f"the encoder of {run}" if not checkpoint else f"a checkpoint of {run}"
        self._run, self._checkpoint = run, checkpoint
        self._first: Life | None = None
        self._looked = False

    def there(self) -> bool:
        return _has_checkpoint(self._run) if self._checkpoint else _exported(self._run)

    def state(self) -> str:
        life = _last_life(self._run)
        if not self._looked:
            self._first, self._looked = life, True
        if life is not None and life.end == "failed" and life != self._first:
            raise UserError(
                f"The run at {self._run} failed at step {life.reached}, so there is no encoder to evaluate. Its own "
                "log says why; start it again, it goes on from its last checkpoint."
            )
        if life is None:
            return "no training has begun there"
        ended = {None: "training", "finished": "finished, the export is under way"}.get(life.end, f"{life.end}")
        return f"its life {life.number} is {ended}, at step {life.reached} or later"

    def missed(self, seconds: float) -> str:
        what = "wrote no checkpoint" if self._checkpoint else "exported no encoder"
        return (
            f"The run at {self._run} {what} within {seconds:g} s: {self.state()}. Wait longer with --wait, or evaluate "
            "once it is finished."
        )


def may_come(url: str) -> bool:
    """Return whether a packed dataset may still appear at a place: in an object store, or if the folder is missing."""
    path = local_path(url)
    return not is_unpacked(url) and (path is None or not os.path.exists(path))


def wait_for(things: Sequence[Awaited], seconds: float) -> None:
    """Wait until all things exist, for `seconds` at most, not at all if it is 0; log the missing ones every minute.

    Raises:
        UserError: one will never exist, or the time is over.
    """
    began, reported = time.monotonic(), -EVERY
    left = list(things) if seconds else []
    while left := [thing for thing in left if not thing.there()]:
        advanced()
        states = [thing.state() for thing in left]
        waited = time.monotonic() - began
        if waited >= seconds:
            raise UserError(" ".join(thing.missed(seconds) for thing in left))
        if waited - reported >= EVERY:
            reported = waited
            for thing, state in zip(left, states, strict=True):
                logger.warning("waiting for %s since %.0f s, at most %.0f s: %s", thing.name, waited, seconds, state)
        time.sleep(min(POLL, seconds - waited))


def _has_checkpoint(run: str) -> bool:
    """Return whether a checkpoint is committed: its manifest is written last."""
    store = open_store(run, TRAINING).inside(CHECKPOINTS)
    return any(_there(store, f"{name}/{MANIFEST}") for name in store.folders() if is_checkpoint(name))


def _exported(run: str) -> bool:
    """Return whether the export is complete: its description is written last."""
    folder, _, file = run.rpartition("/")
    if file.endswith(".safetensors"):
        return _there(open_store(folder or ".", TRAINING), file)
    store = open_store(run, TRAINING)
    return any(_there(store, file) for file in (f"encoder/{DESCRIPTION}", DESCRIPTION, WEIGHTS))


def _there(store: Store, file: str) -> bool:
    """Return whether a file can be read; S3 denies a missing file to a caller that may not list."""
    try:
        return store.size(file) is not None
    except Denied:
        return False


def _last_life(run: str) -> Life | None:
    try:
        lives = read_lives(run)
    except Unreachable as error:
        logger.warning("%s", error)
        return None
    return lives[-1] if lives else None
