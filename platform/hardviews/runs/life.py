"""The lives of a run: one file for each start of its training, which says how far it came and how it ended.

They are for people and for the audit. The training itself reads their number, and which job the newest one belongs to:
one job at a time trains a run. A thread writes the file every few seconds beside the training. So a life that ended
without notice came at least so far, and a file that does not change any more belongs to a life that is over.
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
        updated: when this was written, in seconds since 1970 by the clock of rank 0: every few seconds while it lives.
        end: how it ended, None where that is not known: it goes on, or ended without notice.
        before: step that the life before had reached, None for the first one.
        exact: whether `before` was told by a process that survived, or is only what had been written down by then.
        told: the furthest step that any process had told the job's coordinator when this life began.
        job: name of its job, empty in files of older versions.
        processes: of the job on the machine of rank 0, see `launch.identity`; empty if they cannot be named.
        leaving: whether it was asked to leave, and saves.
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
        """Steps of the life before that were run again."""
        return max(0, (self.before or 0) - self.resumed)


class Superseded(UserError):
    """Another life of the run has begun since: this one, which its job has given up for lost, must not write."""


class Displaced(Superseded):
    """A life of another job has begun since: this job must end."""


class Taken(Exception):
    """Another job has taken the number of this life first."""


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
    """Return the lives of a run, the first one first; a file that cannot be read is left out, and said."""
    store = lives_in(output)
    lives = []
    for file in _numbered(store.files()):
        try:
            lives.append(Life.parse(store.read(file)))
        except (ValueError, FileNotFoundError) as error:
            logger.warning("%s is no record of a life (%s)", store.name(file), error)
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
        """Find out which life this is; writes nothing.

        leaving: says whether this life was asked to leave. job: by default the job of this process. after: number of
        the life that it follows, by default the newest.

        Raises:
            UserError: the output cannot be read.
        """
        self.output = output
        self.store = lives_in(output, patience)
        self._notes = self.store.patient(_LAST)  # not waited for: the next one comes soon
        self._failing = ""  # why the last note was not written
        before, data = newest_life(self.store)
        if after is not None and after != before:
            before, data = after, self._bytes(after, self.store)
        self.number = before + 1
        self.job = job or job_name()
        self.displaced: Displaced | None = None  # another job trains the run since
        self._leaving = leaving or (lambda: False)
        self._before = _parse(data)
        self._step = 0
        self._life: Life | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="life", daemon=True)

    def begin(self, world: int, resumed: int, survivors: int | None) -> None:
        """Write that the life begins.

        survivors: the furthest step that processes of earlier lives told of, None where nobody did.

        Raises:
            UserError: the output cannot be written.
            Taken: another job has begun a life meanwhile; nothing was written.
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
            job=self.job,
            processes=job_processes(),
        )
        self._life = self._claim(life)
        self._thread.start()

    def check_newest(self, patience: float | None = None) -> None:
        """Make sure that no other life has begun since this one.

        A node that is cut off from its job, but not from the store, cannot know that the others went on without it.

        patience: seconds to wait for a store that does not answer; by default those of a command that starts.

        Raises:
            Superseded: one has; Displaced if it is another job's. UserError: the store does not answer.
        """
        self._check(self.store.patient(patience))

    def _check(self, store: Store) -> None:
        if self.displaced is not None:
            raise self.displaced
        number, data = newest_life(store)
        # A store without conditional writes lets a number be taken twice: then the file is the other job's.
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
        words = (self._life, end, self.store.patient(patience))
        last = threading.Thread(target=self._note, args=words, name="life's end", daemon=True)
        last.start()
        last.join(patience)
        if last.is_alive():
            logger.warning("how this life ended could not be written within %.0f s: %s", patience, self.store.url)

    def withdraw(self, patience: float = _LAST) -> None:
        """Take back a life that took no step, as if it had not begun."""
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
        """See whether another job trains the run now; `displaced` has the answer."""
        with suppress(OSError, UserError):
            self._check(self._notes)

    def _note(self, life: Life, end: End | None, store: Store) -> None:
        """Write how far the life came; a failure is told once, until a note is written again or another cause comes."""
        noted = replace(life, reached=self._step, updated=time.time(), end=end, leaving=self._leaving())
        try:
            if self.displaced is not None and _parse(self._bytes(life.number, store)) != life:
                return  # the file is not ours any more
            self._write(noted, store)
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
    """Stands for the notes of a life on the ranks that write none."""

    number = 1
    displaced: Displaced | None = None

    def begin(self, world: int, resumed: int, survivors: int | None) -> None:
        """Begin without a note."""

    def check_newest(self, patience: float | None = None) -> None:
        """Find no other life."""

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
