"""The lives of a run: one file for each start of its training, which says how far it came and how it ended.

They are for people and for the audit. The training itself reads their number, and which job the newest one belongs to:
one job at a time trains a run. A thread writes the file every few seconds beside the training. So a life that ended
without notice came at least so far, and a file that does not change any more belongs to a life that is over.
"""

import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from hardviews.errors import UserError
from hardviews.launch.identity import job_name, job_processes
from hardviews.storage.store import Store

End = Literal["finished", "evicted", "failed", "interrupted"]

_FOLDER = "lives"
_EVERY = 5.0  # seconds between two writes of a life's file
_LAST = 5.0  # seconds that the note of the end may take

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
    return Store(output, patience).inside(_FOLDER)


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
        self, output: str, patience: float | None = None, leaving: Callable[[], bool] | None = None, job: str = ""
    ) -> None:
        """Find out which life this is; writes nothing.

        leaving: says whether this life was asked to leave. job: by default the job of this process.

        Raises:
            UserError: the output cannot be read.
        """
        self.output = output
        self.store = lives_in(output, patience)
        files = _numbered(self.store.files())
        self.number = int(files[-1].removesuffix(".json")) + 1 if files else 1
        self.job = job or job_name()
        self.displaced: Displaced | None = None  # another job trains the run since
        self._leaving = leaving or (lambda: False)
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
        self.store = Store(self.store.url, _LAST)
        self._thread.start()

    def check_newest(self) -> None:
        """Make sure that no other life has begun since this one.

        A node that is cut off from its job, but not from the store, cannot know that the others went on without it.

        Raises:
            Superseded: one has; Displaced if it is another job's.
        """
        if self.displaced is not None:
            raise self.displaced
        number, data = newest_life(self.store)
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
        self._thread.join(patience)
        if not self._thread.is_alive():
            self.store = Store(self.store.url, patience)
            self._note(self._life, end)

    def withdraw(self, patience: float = _LAST) -> None:
        """Take back a life that took no step, as if it had not begun."""
        if self._life is None:
            return
        self._stop.set()
        self._thread.join(patience)
        self.store.remove(f"{self._life.number:04d}.json")
        self._life = None
        if self.store.path is not None:
            with suppress(OSError):  # other lives are there
                os.rmdir(self.store.path)
                os.rmdir(os.path.dirname(self.store.path))

    def _keep(self) -> None:
        while not self._stop.wait(_EVERY):
            if self._life is not None:
                self._look()
                self._note(self._life, None)

    def _look(self) -> None:
        """See whether another job trains the run now."""
        try:
            self.check_newest()
        except Displaced as error:
            logger.warning("%s", error)
        except (OSError, UserError):
            return  # nothing new: the saves look as well

    def _note(self, life: Life, end: End | None) -> None:
        noted = replace(life, reached=self._step, updated=time.time(), end=end, leaving=self._leaving())
        try:
            if self.displaced is not None and self._read(f"{life.number:04d}.json") != life:
                return  # the file is not ours any more
            self._write(noted)
            self._life = noted
        except (OSError, UserError) as error:
            logger.warning("how far this life came could not be written: %s", error)

    def _read(self, file: str) -> Life | None:
        try:
            return _parse(self.store.read(file))
        except FileNotFoundError:
            return None

    def _claim(self, life: Life) -> Life:
        """Write the first note of a life under a number that nobody else has taken meanwhile."""
        while True:
            try:
                self._write(life, new=True)
                return life
            except FileExistsError:
                other = self._read(f"{life.number:04d}.json")
                if other is not None and other.job != self.job:
                    raise Taken(other.job) from None
                self.number += 1
                life = replace(life, number=self.number)

    def _write(self, life: Life, new: bool = False) -> None:
        self.store.write(f"{life.number:04d}.json", json.dumps(asdict(life), indent=1).encode(), new)


def _parse(data: bytes | None) -> Life | None:
    try:
        return None if data is None else Life.parse(data)
    except ValueError:
        return None


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _numbered(files: list[str]) -> list[str]:
    return sorted((file for file in files if re.fullmatch(r"\d+\.json", file)), key=lambda file: int(file[:-5]))
