"""A queue between the training loop and a tracking server that may be away or refuse.

Callers `put` records, which never waits: a bounded queue takes them, a writer thread appends them to a JSON-lines file,
and a sender thread sends the file in order. While the server takes nothing, the file grows. When it takes records
again, sending goes on at the place where it stopped. A later process takes over with `adopt` the records that one that
died left unsent.
"""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.interrupts import hurry_until
from hardviews.tracking.journal import Journal, Memory, Record, lines
from hardviews.tracking.scrub import brief

logger = logging.getLogger(__name__)

# Records are sent at most so many at a time: one request to a server, one transaction in SQLite.
_BATCH = 200
# Seconds between attempts while the server takes nothing: doubled from the first to the last; the longest if only
# somebody's action can help.
_FIRST_PAUSE, _LAST_PAUSE, _LAST_PAUSE_BLOCKED = 0.25, 15.0, 60.0
# Bytes of records that wait in memory while the disk takes none.
_MOST_HELD = 32 << 20
# Kinds of records without which a run looks other than it was; they are few, and kept beyond the bound.
_KEPT = ("end", "lost", "params", "tags", "inputs", "section", "table", "other")


class Rejected(Exception):
    """The server is there and refuses this record for good: sending it again would not help."""


class Blocked(Exception):
    """Nothing is taken until somebody acts, or other software is there; the message says what to do."""


def always(record: Record) -> bool:
    """Return that a record is to be sent, whichever it is."""
    return True


class Spool:
    """Takes records at once and sends them in order, sooner or later.

    path: the JSON-lines file; `send` gets a list of records, raises Rejected for one that can never be taken, Blocked
    for a failure that waiting does not end, and anything else while the server is away; it is called with an empty list
    first, to make contact. capacity: records that may wait for the writer; more are dropped and counted, so that a
    stuck disk does not stop the training. beat: seconds without records after which `send` gets an empty list again.
    counts: whether a record that was not sent is still to be sent, if `send` takes some of a list and fails then.

    If the disk is full or cannot be written, records wait in memory, up to 32 MB; more are dropped and counted.

    Raises UserError where another live process holds the file.
    """

    def __init__(
        self,
        path: Path,
        send: Callable[[Sequence[Record]], None],
        capacity: int = 50_000,
        lock_timeout: float = 30.0,
        beat: float | None = None,
        counts: Callable[[Record], bool] = always,
    ) -> None:
        self.path = path
        self._send = send
        self._beat = beat
        self._counts = counts
        self.disk: str | None = None
        """What is wrong with the disk, None if nothing was."""
        try:
            self._journal = Journal(path, lock_timeout)
        except OSError as error:
            self._tell_disk(error)
            self._journal = Memory(path)
        self._queue: queue.Queue[Record] = queue.Queue(capacity)
        # Lines that the disk did not take: newer than those in the file. Those of them that the sender has in hand are
        # older.
        self._held: list[bytes] = []
        self._in_hand: list[bytes] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        # Ends the pause between two attempts.
        self._again = threading.Event()
        # When the server last took something, or this process began to wait for it; how many attempts there were.
        self._moved = time.monotonic()
        self._attempts = 0
        self.dropped = 0
        self.rejected = 0
        self.left_in_memory = 0
        """Records of a closed queue that are in no file."""
        self.away_since: float | None = None
        self.trouble: str | None = None
        """Why nothing is taken at present."""
        self.blocked = False
        """Whether somebody has to act before anything is taken."""
        self._writer = threading.Thread(target=self._write_loop, name="spool-writer", daemon=True)
        self._sender = threading.Thread(target=self._send_loop, name="spool-sender", daemon=True)

    def start(self) -> None:
        """Start writing and sending; records that an earlier process left are sent first."""
        self._writer.start()
        self._sender.start()

    def put(self, record: Record) -> None:
        """Take a record; never waits."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def adopt(self, other: Path, wanted: Callable[[Record], bool]) -> bool:
        """Take over what a process that is gone left unsent in another file; call before `start`.

        Returns whether it did: a live process keeps its own. The other file goes when this one has its records, so a
        kill in between sends them twice, never loses them.
        """
        try:
            left = Journal(other, lock_timeout=0.0)
        except UserError:
            return False
        except OSError as error:
            self._tell_disk(error)
            return False
        filed = True
        while left.offset < left.size:
            records, length = left.read(_BATCH)
            data = lines([record for record in records if wanted(record)])
            try:
                self._journal.append(b"".join(data))
            except OSError as error:
                self._tell_disk(error)
                self._held += data
                filed = False
            left.offset += length
        if filed:
            left.remove()
        left.close()
        return True

    def lost(self) -> int:
        """Count the records that nobody will send: dropped, refused for good, or damaged on the disk."""
        return self.dropped + self.rejected + self._journal.damaged

    def unsent(self) -> int:
        """Count the records that were taken and not yet sent."""
        filed = 0 if isinstance(self._journal, Memory) else self._journal.unsent(self._counts)
        return filed + self.only_in_memory()

    def only_in_memory(self) -> int:
        """Count the records that are in no file: they go with the process."""
        with self._changed:
            waiting = len(self._held) + len(self._in_hand) + self._queue.unfinished_tasks
        return waiting + (self._journal.unsent(self._counts) if isinstance(self._journal, Memory) else 0)

    def drain(self, timeout: float, sending: float = 0.0, quiet: float | None = None) -> bool:
        """Wait until everything taken so far is sent; return whether it was.

        timeout: seconds to wait for a server that is away; sending: in all, for one that takes records (`timeout` if
        that is longer); quiet: without an answer to the request under way, `timeout` by default. If somebody has to act
        first, one more attempt is waited for. A process that is asked to hurry waits for seconds only.
        """
        begun = time.monotonic()
        quiet = timeout if quiet is None else quiet
        first = self._attempts
        self._again.set()
        with self._changed:
            while self._waits():
                if self.blocked and self._attempts > first:
                    return False
                limit = begun + timeout
                if self.away_since is None:
                    limit = min(begun + max(timeout, sending), max(begun, self._moved) + quiet)
                left = min(limit, hurry_until()) - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.1))
        return True

    def close(self, timeout: float = 30.0, sending: float = 0.0, quiet: float | None = None) -> int:
        """Send what is left, as long as `drain` waits; return how many records were not sent.

        The file stays where records are left in it, for a process that adopts it; else it is removed.
        """
        sent = self.drain(timeout, sending, quiet)
        self._closing.set()
        self._again.set()
        with self._changed:
            self._changed.notify_all()
        if self._writer.ident is not None:
            self._writer.join(5.0)
            # A request that hangs is not waited for.
            self._sender.join(1.0 if sent else 0.2)
        left, self.left_in_memory = self.unsent(), self.only_in_memory()
        if left == 0:
            self._journal.remove()
        if not self._sender.is_alive():
            self._journal.close()
        return left + self.dropped

    def _waits(self) -> bool:
        """Return whether records wait that were not sent."""
        journal = self._journal
        return bool(journal.offset < journal.size or self._queue.unfinished_tasks or self._held or self._in_hand)

    def _write_loop(self) -> None:
        while not (self._closing.is_set() and self._queue.empty()):
            try:
                records = [self._queue.get(timeout=0.1)]
            except queue.Empty:
                continue
            while len(records) < _BATCH:
                try:
                    records.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            self._write(records)
            with self._changed:
                for _ in records:
                    self._queue.task_done()
                self._changed.notify_all()
        if self._held:
            self._write([])

    def _write(self, records: Sequence[Record]) -> None:
        """Append records, after those that the disk did not take before; keep all in memory if it takes none."""
        with self._changed:
            held, self._held = self._held, []
        new = lines(records)
        try:
            self._journal.append(b"".join(held + new))
        except OSError as error:
            self._tell_disk(error)
            size = sum(map(len, held))
            for line, record in zip(new, records, strict=True):
                size += len(line)
                if size <= _MOST_HELD or record.get("kind") in _KEPT:
                    held.append(line)
                else:
                    self.dropped += 1
                    size -= len(line)
            with self._changed:
                self._held = held

    def _send_loop(self) -> None:
        pause = _FIRST_PAUSE
        greeted = False
        while True:
            if greeted:
                self._wait_for_records()
            if self._closing.is_set():
                return
            try:
                records, length = self._next() if greeted else ([], 0)
                self._send_some(records)
            except Exception as error:
                self._take_note(error)
                if self._again.wait(pause):
                    self._again.clear()
                    pause = _FIRST_PAUSE
                else:
                    pause = min(2 * pause, _LAST_PAUSE_BLOCKED if self.blocked else _LAST_PAUSE)
                continue
            self._recover()
            greeted, pause = True, _FIRST_PAUSE
            self._advance(length)

    def _wait_for_records(self) -> None:
        begun = time.monotonic()
        with self._changed:
            while not (self._in_hand or self._held or self._journal.offset < self._journal.size):
                if self._closing.is_set() or (self._beat is not None and time.monotonic() - begun > self._beat):
                    return
                self._changed.wait(0.5)

    def _next(self) -> tuple[list[Record], int]:
        """Return the next records, and their length in the file: 0 if they come from memory."""
        with self._changed:
            if not self._in_hand and self._journal.offset >= self._journal.size:
                self._in_hand, self._held = self._held[:_BATCH], self._held[_BATCH:]
            if self._in_hand:
                return [json.loads(line) for line in self._in_hand], 0
        return self._journal.read(_BATCH)

    def _send_some(self, records: Sequence[Record]) -> None:
        try:
            self._send(records)
        except Rejected:
            # One of them is refused: the others must still arrive, and in order.
            for record in records:
                try:
                    self._send([record])
                except Rejected as error:
                    self.rejected += 1
                    logger.warning("tracking: a %s record was refused: %s", record.get("kind", "?"), brief(error))

    def _take_note(self, error: Exception) -> None:
        """Say why nothing is taken: at once, and again if somebody has to act now, or must do something else."""
        blocked, reason = isinstance(error, Blocked), brief(error)
        if blocked and (not self.blocked or reason != self.trouble):
            logger.warning("tracking: %s. Records wait in %s.", reason.rstrip("."), self.path)
        elif not blocked and (self.away_since is None or self.blocked):
            logger.warning("tracking: the server is away (%s); records are kept in %s", reason, self.path)
        with self._changed:
            self.blocked, self.trouble = blocked, reason
            self.away_since = self.away_since or time.time()
            self._attempts += 1
            self._changed.notify_all()

    def _recover(self) -> None:
        if self.away_since is not None:
            logger.warning("tracking: records are taken again after %.0f s", time.time() - self.away_since)
        with self._changed:
            self.away_since, self.trouble, self.blocked = None, None, False
            self._attempts += 1

    def _advance(self, length: int) -> None:
        try:
            if length:
                self._journal.advance(length)
        except OSError as error:
            # Known in memory: only a later process would send these records once more.
            self._tell_disk(error)
        with self._changed:
            if not length:
                self._in_hand = []
            self._moved = time.monotonic()
            self._changed.notify_all()

    def _tell_disk(self, error: OSError) -> None:
        """Say once that the disk takes nothing."""
        remedy = of_machine(error, str(self.path))
        words = remedy.words if remedy is not None else f"{self.path}: {brief(error)}."
        if self.disk is None:
            logger.warning("tracking: %s Records wait in memory until then.", words)
        self.disk = words
