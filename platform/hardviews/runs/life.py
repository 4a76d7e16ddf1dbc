"""The lives of a run: one file for each start of its training, with its last step and its end.

They are for people and for the audit. The training itself reads only their number and the job of the newest one:
one job at a time trains a run. A thread writes the file every few seconds beside the training. So a life that ended
without notice came at least to the step in its file. A file that does not change any more belongs to a life that is
over.
"""

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from hardviews.elastic.identity import job_name, job_processes
from hardviews.errors import UserError
from hardviews.failures import kind_of
from hardviews.storage.store import Store, open_store

End = Literal["finished", "evicted", "failed", "interrupted"]

_FOLDER = "lives"
_EVERY = 5.0  # seconds between two writes of a life's file
_LAST = 5.0  # seconds allowed for the note of the end
_FREE = 1.0  # seconds that the note of the end waits for another note that is being written

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Life:
    """One start of a run's training.

    Attributes:
        number: number of the life, from 1.
        world: processes that train together.
        resumed: step at which it resumed.
        began: time of its begin, in seconds since 1970.
        host: host of rank 0.
        reached: last step known to be taken.
        updated: time of this note, in seconds since 1970 by the clock of rank 0; every few seconds while it lives.
        end: the way it ended; None if it goes on or ended without notice.
        before: step that the previous life had reached, None for the first life.
        exact: whether a surviving process reported `before`; else it is only the last step in the notes.
        told: the furthest step that any process had reported to the job's coordinator when this life began.
        job: name of its job, empty in files of older versions.
        processes: processes of the job on the machine of rank 0, see `launch.identity`; empty if they cannot be named.
        leaving: whether it was asked to leave, and is saving.
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
    job: str = ""
    processes: str = ""
    leaving: bool = False

    @staticmethod
    def parse(data: bytes) -> "Life":
        """Return the life in a file's bytes; keys of newer versions are left out.

        Raises:
            ValueError: the bytes are not the record of a life.
        """
        try:
            known = {field.name for field in fields(Life)}
            return Life(**{key: value for key, value in json.loads(data).items() if key in known})
        except (TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error

    @property
    def rolled_back(self) -> int:
        """Number of steps of the previous life that were run again."""
        return max(0, (self.before or 0) - self.resumed)


class Superseded(UserError):
    """Another life of the run has begun since: the job has given this one up for lost, so it must not write."""


class Displaced(Superseded):
    """A life of another job has begun since: this job must end."""


class Taken(Exception):
    """Another job took the number of this life first."""


def newest_life(store: Store) -> tuple[int, bytes | None]:
    """Return number and bytes of the newest file in a folder of lives; 0 if there is none, None if it is gone again."""
    files = _numbered(store.files())
    if not files:
        return 0, None
    try:
        return int(files[-1].removesuffix(".json")), store.read(files[-1])
    except FileNotFoundError:
        return int(files[-1].removesuffix(".json")), None


def lives_in(output: str, patience: float | None = None) -> Store:
    """Return the folder of the lives of a run."""
    return open_store(output, patience).inside(_FOLDER)


def read_lives(output: str) -> list[Life]:
    """Return the lives of a run in their order; an unreadable file is left out, with a warning."""
    store = lives_in(output)
    lives = []
    for file in _numbered(store.files()):
        try:
            lives.append(Life.parse(store.read(file)))
        except (ValueError, FileNotFoundError) as error:
            logger.warning("%s is not the record of a life (%s)", store.name(file), error)
    return lives


class LifeNotes:
    """Keeps the file of the present life."""

    def __init__(
        self,
        output: str,
        patience: float | None = None,
        leaving: Callable[[], bool] | None = None,
        job: str = "",
        after: int | None = None,
    ) -> None:
        """Determine the number of this life; write nothing.

        `leaving` returns whether this life was asked to leave. `job` is by default the job of this process. `after` is
        the number of the life that it follows, by default the newest.

        Raises:
            UserError: the output cannot be read.
        """
        self.output = output
        self.store = lives_in(output, patience)
        self._notes = self.store.patient(_LAST)  # without a wait: the next note comes soon
        self._failing = ""  # reason why the last note was not written
        before, data = newest_life(self.store)
        if after is not None and after != before:
            before, data = after, self._bytes(after, self.store)
        self.number = before + 1
        self.job = job or job_name()
        self.displaced: Displaced | None = None  # set once another job trains the run
        self._leaving = leaving or (lambda: False)
        self._before = _parse(data)
        self._step = 0
        self._life: Life | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="life", daemon=True)

    def begin(self, world: int, resumed: int, survivors: int | None) -> None:
        """Write that the life begins.

        `survivors` is the furthest step that processes of earlier lives reported, None if none did.

        Raises:
            UserError: the output cannot be written.
            Taken: another job has begun a life meanwhile; nothing was written.
        """
        before, now = self._before, time.time()
        last, exact = None, False
        if before is not None:
            # Only a step reported after that life began counts. A single process leaves nobody to report.
            news = survivors is not None and survivors > max(before.told or 0, before.resumed)
            last = max(before.reached, survivors or 0) if news else before.reached
            exact = (news and before.world > 1) or before.end in ("finished", "evicted")
        self._step = resumed
        life = Life(
            *(self.number, world, resumed, now, socket.gethostname(), resumed, now),
            before=last,
            exact=exact,
            told=survivors,
            job=self.job,
            processes=job_processes(),
        )
        self._life = self._claim(life)
        self._thread.start()

    def check_newest(self, patience: float | None = None) -> None:
        """Make sure that no other life has begun since this one.

        A node that is cut off from its job, but not from the store, cannot know that the others went on without it.
        `patience` is the time in seconds to wait for a store that does not answer; by default as for a command that
        starts.

        Raises:
            Superseded: another life has begun; Displaced if it belongs to another job.
            UserError: the store does not answer.
        """
        self._check(self.store.patient(patience))

    def _check(self, store: Store) -> None:
        if self.displaced is not None:
            raise self.displaced
        number, data = newest_life(store)
        # In a store without conditional writes two jobs can take one number: then the file is the other job's.
        if number < self.number:
            return
        newest = _parse(data)
        if newest is not None and newest.job != self.job:
            self.displaced = Displaced(
                f"Another job, {newest.job or 'of an older version'} on {newest.host}, trains the run in {self.output} "
                f"since {_clock(newest.began)}; this one ends. Give each job an --output of its own."
            )
            raise self.displaced
        if number > self.number:
            raise Superseded(f"life {number} of the run in {self.output} has begun since this one, life {self.number}")

    def reached(self, step: int) -> None:
        """Note a step, without a wait."""
        self._step = step

    def close(self, end: End, patience: float = _LAST) -> None:
        """Write the end of the life, if it began; give up after `patience` seconds."""
        if self._life is None:
            return
        self._stop.set()
        self._notes.close()  # stops the wait for a store: notes no longer matter
        self._thread.join(min(_FREE, patience))
        # In a thread of its own: one request may take longer than the time left.
        words = (self._life, end, self.store.patient(patience))
        last = threading.Thread(target=self._note, args=words, name="life's end", daemon=True)
        last.start()
        last.join(patience)
        if last.is_alive():
            logger.warning("how this life ended could not be written within %.0f s: %s", patience, self.store.url)

    def withdraw(self, patience: float = _LAST) -> None:
        """Remove the note of a life that took no step, as if it had not begun."""
        if self._life is None:
            return
        self._stop.set()
        self._notes.close()
        self._thread.join(patience)
        self.store.patient(patience).remove(f"{self._life.number:04d}.json")
        self._life = None
        # The first life of a run made these folders.
        self.store.remove_if_empty()
        open_store(self.output).remove_if_empty()

    def _keep(self) -> None:
        while not self._stop.wait(_EVERY) and self.displaced is None:
            self._look()
            if self._life is not None:
                self._note(self._life, None, self._notes)

    def _look(self) -> None:
        """Check whether another job trains the run now; `displaced` holds the answer."""
        with suppress(OSError, UserError):
            self._check(self._notes)

    def _note(self, life: Life, end: End | None, store: Store) -> None:
        """Write the last step of the life; log a failure once, until a note is written again or the cause changes."""
        noted = replace(life, reached=self._step, updated=time.time(), end=end, leaving=self._leaving())
        try:
            if self.displaced is not None and _parse(self._bytes(life.number, store)) != life:
                return  # the file belongs to another job now
            self._write(noted, store)
        except Exception as error:  # of any kind: the thread must go on
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
        self._life = noted

    @staticmethod
    def _bytes(number: int, store: Store) -> bytes | None:
        try:
            return store.read(f"{number:04d}.json")
        except FileNotFoundError:
            return None

    def _claim(self, life: Life) -> Life:
        """Write the first note of a life under a number that nobody else has taken meanwhile."""
        while True:
            try:
                self._write(life, self.store, new=True)
                return life
            except FileExistsError:
                other = _parse(self._bytes(life.number, self.store))
                if other is not None and other.job != self.job:
                    raise Taken(other.job) from None
                self.number += 1
                life = replace(life, number=self.number)

    def _write(self, life: Life, store: Store, new: bool = False) -> None:
        store.write(f"{life.number:04d}.json", json.dumps(asdict(life), indent=1).encode(), new)


class NoLife:
    """The notes of a life on the ranks that write none."""

    number = 1
    displaced: Displaced | None = None

    def begin(self, world: int, resumed: int, survivors: int | None) -> None:
        """Begin without a note."""

    def check_newest(self, patience: float | None = None) -> None:
        """Do nothing: there is no other life."""

    def reached(self, step: int) -> None:
        """Take no note of a step."""

    def close(self, end: End, patience: float = _LAST) -> None:
        """End without a note."""

    def withdraw(self, patience: float = _LAST) -> None:
        """Take nothing back."""


def _parse(data: bytes | None) -> Life | None:
    try:
        return None if data is None else Life.parse(data)
    except ValueError:
        return None


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _numbered(files: list[str]) -> list[str]:
    return sorted((file for file in files if re.fullmatch(r"\d+\.json", file)), key=lambda file: int(file[:-5]))
