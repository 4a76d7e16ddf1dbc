"""The lives of a run: one file for each start of its training, which says how far it came and how it ended.

They are for people and for the audit; the training itself asks them only how many there were. How far a life came is
written every few seconds beside the training, so a life that ended without notice came at least so far.
"""

import json
import logging
import re
import socket
import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import Literal

from hardviews.errors import UserError
from hardviews.failures import kind_of
from hardviews.storage.store import Store

End = Literal["finished", "evicted", "failed", "interrupted"]

_FOLDER = "lives"
_EVERY = 5.0  # seconds between notes of how far a life came
_LAST = 5.0  # seconds that the note of the end may take
_FREE = 1.0  # seconds that the note of the end waits for one that is being written

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Life:
    """One start of a run's training.

    Attributes:
        number: from 1.
        world: processes that train together.
        resumed: step that it went on from.
        began: seconds since 1970.
        host: of rank 0.
        reached: last step known to be taken.
        updated: when that was, in seconds since 1970.
        end: how it ended, None where that is not known: it goes on, or ended without notice.
        before: step that the life before had reached, None for the first one.
        exact: whether `before` was told by a process that survived, or is only what had been written down by then.
        told: the furthest step that any process had told the job's coordinator when this life began.
    """

    number: int
    world: int
    resumed: int
    began: float
    host: str
    reached: int
    updated: float
    end: End | None = None
    before: int | None = None
    exact: bool = False
    told: int | None = None

    @property
    def rolled_back(self) -> int:
        """Steps of the life before that were run again."""
        return max(0, (self.before or 0) - self.resumed)


class Superseded(UserError):
    """Another life of the run has begun since: this one, which its job has given up for lost, must not write."""


def read_lives(output: str) -> list[Life]:
    """Return the lives of a run, the first one first; a file that cannot be read is left out, and said."""
    store = Store(output).inside(_FOLDER)
    lives = []
    for file in _numbered(store.files()):
        try:
            lives.append(Life(**json.loads(store.read(file))))
        except (ValueError, TypeError, FileNotFoundError) as error:
            logger.warning("%s is no record of a life (%s)", store.name(file), error)
    return lives


class LifeNotes:
    """Keeps the file of the present life."""

    def __init__(self, output: str, patience: float | None = None) -> None:
        """Find out which life this is; writes nothing.

        Raises:
            UserError: the output cannot be read.
        """
        self.store = Store(output, patience).inside(_FOLDER)
        self._notes = Store(self.store.url, _LAST)  # not waited for: the next one comes soon
        self._failing = ""  # why the last note was not written
        files = _numbered(self.store.files())
        self.number = int(files[-1].removesuffix(".json")) + 1 if files else 1
        self._before = self._read(files[-1]) if files else None
        self._step = 0
        self._life: Life | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="life", daemon=True)

    def begin(self, world: int, resumed: int, survivors: int | None) -> None:
        """Write that the life begins.

        survivors: the furthest step that processes of earlier lives told of, None where nobody did.

        Raises:
            UserError: the output cannot be written.
        """
        before, now = self._before, time.time()
        last, exact = None, False
        if before is not None:
            # What was known before that life began says nothing of it; a process alone leaves no survivor.
            news = survivors is not None and survivors > max(before.told or 0, before.resumed)
            last = max(before.reached, survivors or 0) if news else before.reached
            exact = (news and before.world > 1) or before.end in ("finished", "evicted")
        self._step = resumed
        life = Life(
            *(self.number, world, resumed, now, socket.gethostname(), resumed, now),
            before=last,
            exact=exact,
            told=survivors,
        )
        self._life = self._claim(life)
        self._thread.start()

    def check_newest(self, patience: float | None = None) -> None:
        """Make sure that no other life has begun since this one.

        A node that is cut off from its job, but not from the store, cannot know that the others went on without it.

        patience: seconds to wait for a store that does not answer; by default those of a command that starts.

        Raises:
            Superseded: one has. UserError: the store does not answer.
        """
        store = Store(self.store.url, patience)
        newest = max((int(file.removesuffix(".json")) for file in _numbered(store.files())), default=0)
        if newest > self.number:
            raise Superseded(
                f"life {newest} of the run in {self.store.url} has begun since this one, life {self.number}"
            )

    def reached(self, step: int) -> None:
        """Take note of a step; never waits."""
        self._step = step

    def close(self, end: End, patience: float = _LAST) -> None:
        """Write how the life ended, if it began; gives up after so many seconds."""
        if self._life is None:
            return
        self._stop.set()
        self._notes.close()  # what it waits for is not worth waiting for any more
        self._thread.join(min(_FREE, patience))
        # By a thread of its own: one request may take longer than there is time.
        words = (self._life, end, Store(self.store.url, patience))
        last = threading.Thread(target=self._note, args=words, name="life's end", daemon=True)
        last.start()
        last.join(patience)
        if last.is_alive():
            logger.warning("how this life ended could not be written within %.0f s: %s", patience, self.store.url)

    def _keep(self) -> None:
        while not self._stop.wait(_EVERY):
            if self._life is not None and self._step != self._life.reached:
                self._note(self._life, None, self._notes)

    def _note(self, life: Life, end: End | None, store: Store) -> None:
        """Write how far the life came; a failure is told once, until a note is written again or another cause comes."""
        life = replace(life, reached=self._step, updated=time.time(), end=end)
        try:
            self._write(life, store)
        except Exception as error:  # of whatever kind: the thread goes on
            if self._stop.is_set() and end is None:
                return
            cause = kind_of(error)
            if cause != self._failing or end is not None:
                logger.warning(
                    "how far this life came could not be written: %s%s",
                    *(error, "" if end is not None else " Training goes on, and this is tried again."),
                )
            self._failing = cause
            return
        if self._failing:
            logger.warning("how far this life came is written again, in %s", store.url)
        self._failing = ""
        self._life = life

    def _read(self, file: str) -> Life | None:
        try:
            return Life(**json.loads(self.store.read(file)))
        except (ValueError, TypeError, FileNotFoundError):
            return None

    def _claim(self, life: Life) -> Life:
        """Write the first note of a life under a number that nobody else has taken meanwhile."""
        while True:
            try:
                self._write(life, self.store, new=True)
                return life
            except FileExistsError:
                self.number += 1
                life = replace(life, number=self.number)

    def _write(self, life: Life, store: Store, new: bool = False) -> None:
        store.write(f"{life.number:04d}.json", json.dumps(asdict(life), indent=1).encode(), new)


def _numbered(files: list[str]) -> list[str]:
    return sorted((file for file in files if re.fullmatch(r"\d+\.json", file)), key=lambda file: int(file[:-5]))
