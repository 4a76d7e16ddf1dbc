"""A queue between the training loop and a tracking server that may be away or refuse.

Callers `put` records, which never waits: a bounded queue takes them, a writer thread appends them to a JSON-lines file,
and a sender thread sends the file in order. While the server accepts nothing, the file grows. When it accepts records
again, sending goes on at the place where it stopped. With `adopt` a later process takes over the unsent records of a
process that died.
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

# Most records that are sent at a time: one request to a server, one transaction in SQLite.
_BATCH = 200
# Seconds between attempts while the server accepts nothing: doubled from the first to the last; the third if somebody
# must act.
_FIRST_PAUSE, _LAST_PAUSE, _LAST_PAUSE_BLOCKED = 0.25, 15.0, 60.0
# Most bytes of records that wait in memory while the disk fails.
_MOST_HELD = 32 << 20
# Kinds of records that are essential for a run; they are few, and kept beyond the bound.
_KEPT = ("end", "lost", "params", "tags", "inputs", "section", "table", "other")


class Rejected(Exception):
    """The server answers and refuses this record for good: another attempt would not help."""


class Blocked(Exception):
    """Nothing is accepted until somebody acts, or other software is installed; the message is the remedy."""


def always(record: Record) -> bool:
    """Return true: every record is to be sent."""
    return True


class Spool:
    """Takes records at once and sends them in order, sooner or later.

    If the disk is full or cannot be written, records wait in memory, up to 32 MB; more are dropped and counted.

    `path` is the JSON-lines file. `send` gets a list of records, first an empty one, to make contact. It raises
    Rejected for a record that can never be accepted, Blocked for a failure that cannot pass, and any other error while
    the server is away. `capacity` is the number of records that may wait for the writer; more are dropped and counted,
    so that a stuck disk does not stop the training. `beat` is the time in seconds without records after which `send`
    gets an empty list again. `counts` returns whether an unsent record must still be sent, if `send` fails after a part
    of a list.

    Raises:
        UserError: another live process holds the file.
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
        """The failure of the disk, None if there was none."""
        try:
            self._journal = Journal(path, lock_timeout)
        except OSError as error:
            self._tell_disk(error)
            self._journal = Memory(path)
        self._queue: queue.Queue[Record] = queue.Queue(capacity)
        # Lines that the disk could not hold: newer than the lines in the file. The sender's present lines are older.
        self._held: list[bytes] = []
        self._in_hand: list[bytes] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        # Ends the pause between two attempts.
        self._again = threading.Event()
        # Time at which the server last accepted something, or this process began to wait; the number of attempts.
        self._moved = time.monotonic()
        self._attempts = 0
        self.dropped = 0
        self.rejected = 0
        self.left_in_memory = 0
        """Records of a closed queue that are in no file."""
        self.away_since: float | None = None
        self.trouble: str | None = None
        """Reason why nothing is accepted at present."""
        self.blocked = False
        """Whether somebody must act before anything is accepted."""
        self._writer = threading.Thread(target=self._write_loop, name="spool-writer", daemon=True)
        self._sender = threading.Thread(target=self._send_loop, name="spool-sender", daemon=True)

    def start(self) -> None:
        """Start writing and sending; unsent records of an earlier process are sent first."""
        self._writer.start()
        self._sender.start()

    def put(self, record: Record) -> None:
        """Take a record, without a wait."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def adopt(self, other: Path, wanted: Callable[[Record], bool]) -> bool:
        """Take over the unsent records of an ended process from another file; call before `start`.

        Return whether this was possible: a live process keeps its own records. The other file is removed once this one
        has its records, so a kill in between sends them twice, but never loses them.
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
        """Return the number of lost records: dropped, refused for good, or damaged on the disk."""
        return self.dropped + self.rejected + self._journal.damaged

    def unsent(self) -> int:
        """Return the number of records that were taken and not yet sent."""
        filed = 0 if isinstance(self._journal, Memory) else self._journal.unsent(self._counts)
        return filed + self.only_in_memory()

    def only_in_memory(self) -> int:
        """Return the number of records that are only in memory: they are lost with the process."""
        with self._changed:
            waiting = len(self._held) + len(self._in_hand) + self._queue.unfinished_tasks
        return waiting + (self._journal.unsent(self._counts) if isinstance(self._journal, Memory) else 0)

    def drain(self, timeout: float, sending: float = 0.0, quiet: float | None = None) -> bool:
        """Wait until everything taken so far is sent; return whether it was.

        `timeout` is the time in seconds to wait for a server that is away. `sending` is the total time for a server
        that accepts records, at least `timeout`. `quiet` is the time without an answer to the current request, by
        default `timeout`. If somebody must act first, this waits for one more attempt. A process that must hurry waits
        only for seconds.
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
        """Send the remaining records, as long as `drain` waits; return the number of unsent records.

        If records remain, the file stays for a process that adopts it; else it is removed.
        """
        sent = self.drain(timeout, sending, quiet)
        self._closing.set()
        self._again.set()
        with self._changed:
            self._changed.notify_all()
        if self._writer.ident is not None:
            self._writer.join(5.0)
            # There is no wait for a request that hangs.
            self._sender.join(1.0 if sent else 0.2)
        left, self.left_in_memory = self.unsent(), self.only_in_memory()
        if left == 0:
            self._journal.remove()
        if not self._sender.is_alive():
            self._journal.close()
        return left + self.dropped

    def _waits(self) -> bool:
        """Return whether unsent records wait."""
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
        """Append records, after those that could not be written before; keep all in memory if the disk fails."""
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
        """Log why nothing is accepted: at once, and again if somebody must act now, or must do something else."""
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
            # This process has the note in memory; only a later process would send these records once more.
            self._tell_disk(error)
        with self._changed:
            if not length:
                self._in_hand = []
            self._moved = time.monotonic()
            self._changed.notify_all()

    def _tell_disk(self, error: OSError) -> None:
        """Log once that the disk fails."""
        remedy = of_machine(error, str(self.path))
        words = remedy.words if remedy is not None else f"{self.path}: {brief(error)}."
        if self.disk is None:
            logger.warning("tracking: %s Records wait in memory until then.", words)
        self.disk = words
