"""A queue on disk between the training loop and a tracking server that may be away.

Callers `put` records, which never waits: a bounded queue takes them, a writer thread appends them to a
JSON-lines file, and a sender thread sends the file in order. While the server is away the file grows; when it
is back, sending goes on where it stopped. A later process takes over with `adopt` what one that died left.
"""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hardviews.errors import UserError
from hardviews.tracking.scrub import scrub

Record = dict[str, Any]
logger = logging.getLogger(__name__)

# Records are sent at most so many at a time: one request to a server, one transaction in SQLite.
_BATCH = 200
# Seconds between attempts while the server is away: doubled from the first to the last.
_FIRST_PAUSE, _LAST_PAUSE = 0.25, 15.0
# A file that has been sent wholly is emptied once it is larger than this (bytes).
_COMPACT = 1 << 20


class Rejected(Exception):
    """The server is there and refuses this record for good: sending it again would not help."""


class Spool:
    """Takes records at once and sends them in order, sooner or later.

    path: the JSON-lines file; `send` gets a list of records, raises Rejected for one that can never be taken,
    and anything else while the server is away; it is called with an empty list first, to make contact. capacity:
    records that may wait for the disk; more are dropped and counted, so that a stuck disk does not stop the training.
    Raises UserError where another live process holds the file.
    """

    def __init__(
        self,
        path: Path,
        send: Callable[[Sequence[Record]], None],
        capacity: int = 50_000,
        lock_timeout: float = 30.0,
    ) -> None:
        self.path = path
        self._send = send
        self._offset_path = path.with_suffix(".sent")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _open_locked(path, lock_timeout)
        _drop_torn_line(self._file.fileno())
        self._size = os.fstat(self._file.fileno()).st_size
        self._offset = self._read_offset()
        self._queue: queue.Queue[Record] = queue.Queue(capacity)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        # When the server last took something, or this process began to wait for it.
        self._moved = time.monotonic()
        self.dropped = 0
        self.rejected = 0
        self.away_since: float | None = None
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

        Returns whether it did: a live process keeps its own. The other file goes when this one has its records, so
        a kill in between sends them twice, never loses them.
        """
        try:
            left = Spool(other, self._send, lock_timeout=0.0)
        except UserError:
            return False
        with left._file:
            while left._offset < left._size:
                records, length = left._read(left._offset, min(left._size - left._offset, 1 << 20))
                data = _lines([record for record in records if wanted(record)])
                _append(self._file.fileno(), data)
                self._size += len(data)
                left._offset += length
            left._remove()
        return True

    def unsent(self) -> int:
        """Count the records that were taken and not yet sent."""
        with self._changed:
            offset, size = self._offset, self._size
        waiting = os.pread(self._file.fileno(), size - offset, offset).count(b"\n")
        return waiting + self._queue.unfinished_tasks

    def drain(self, timeout: float, sending: float = 0.0, quiet: float | None = None) -> bool:
        """Wait until everything taken so far is sent; return whether it was.

        timeout: seconds to wait for a server that is away; sending: in all, for one that takes records (`timeout` if
        that is longer); quiet: without an answer to the request under way, `timeout` by default.
        """
        begun = time.monotonic()
        quiet = timeout if quiet is None else quiet
        with self._changed:
            while self._offset < self._size or self._queue.unfinished_tasks:
                limit = begun + timeout
                if self.away_since is None:
                    limit = min(begun + max(timeout, sending), max(begun, self._moved) + quiet)
                left = limit - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.1))
        return True

    def close(self, timeout: float = 30.0, sending: float = 0.0, quiet: float | None = None) -> int:
        """Send what is left, as long as `drain` waits; return how many records were not sent.

        The file stays where records are left in it, for a process that adopts it; else it is removed.
        """
        self.drain(timeout, sending, quiet)
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._writer.join(5.0)
        self._sender.join(1.0)
        left = self.unsent()
        if left == 0:
            self._remove()
        if not self._sender.is_alive():
            self._file.close()
        return left + self.dropped

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._offset_path.unlink(missing_ok=True)

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
            data = _lines(records)
            try:
                _append(self._file.fileno(), data)
            except OSError as error:
                self.dropped += len(records)
                logger.warning("tracking: cannot write %s (%s); %d records lost", self.path, error, len(records))
                _drop_torn_line(self._file.fileno())
                data = b""
            with self._changed:
                self._size += len(data)
                for _ in records:
                    self._queue.task_done()
                self._changed.notify_all()

    def _send_loop(self) -> None:
        pause = _FIRST_PAUSE
        greeted = False
        while True:
            records: list[Record] = []
            length = 0
            with self._changed:
                while greeted and self._offset >= self._size and not self._closing.is_set():
                    self._changed.wait(0.5)
                if self._closing.is_set():
                    return
                offset, size = self._offset, self._size
            if greeted:
                records, length = self._read(offset, min(size - offset, 1 << 20))
            try:
                self._send_some(records)
            except Exception as error:
                if self.away_since is None:
                    self.away_since = time.time()
                    logger.warning(
                        "tracking: the server is away (%s); records are kept in %s", _brief(error), self.path
                    )
                self._closing.wait(pause)
                pause = min(2 * pause, _LAST_PAUSE)
                continue
            if self.away_since is not None:
                logger.warning("tracking: the server is back after %.0f s", time.time() - self.away_since)
                self.away_since = None
            greeted, pause = True, _FIRST_PAUSE
            self._advance(offset + length)

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
                    logger.warning("tracking: a %s record was refused: %s", record.get("kind", "?"), _brief(error))

    def _read(self, offset: int, length: int) -> tuple[list[Record], int]:
        """Read whole lines from `offset`, at most a batch of them, and their length in bytes."""
        data = os.pread(self._file.fileno(), length, offset)
        while b"\n" not in data and length < self._size - offset:
            length = min(2 * length, self._size - offset)
            data = os.pread(self._file.fileno(), length, offset)
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)[:_BATCH]
        return [json.loads(line) for line in lines], sum(map(len, lines))

    def _advance(self, offset: int) -> None:
        with self._changed:
            self._moved = time.monotonic()
            if offset == self._offset:
                return
            self._offset = offset
            if self._offset == self._size and self._size > _COMPACT:
                os.ftruncate(self._file.fileno(), 0)
                self._offset = self._size = 0
            temporary = self._offset_path.with_suffix(".sent.part")
            temporary.write_text(str(self._offset))
            os.replace(temporary, self._offset_path)
            self._changed.notify_all()

    def _read_offset(self) -> int:
        try:
            offset = int(self._offset_path.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        # Larger than the file: the process ended between emptying the file and noting it.
        return offset if offset <= self._size else 0


def _open_locked(path: Path, timeout: float) -> io.FileIO:
    """Open the file for this process alone; the lock goes with the process, however it ends."""
    deadline = time.monotonic() + timeout
    while True:
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 (stays open)
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UserError(
                    f"Another process is writing to the same tracking run: {path} is locked. Stop the other job, or "
                    "start this one as a run of its own."
                ) from None
            time.sleep(0.1)
        # Held by another, or removed by the one that held it: what is at the path now is another file.
        file.close()


def _drop_torn_line(descriptor: int) -> None:
    """Cut what follows the last newline: a record that a killed process wrote in part."""
    size = os.fstat(descriptor).st_size
    position = size
    while position > 0:
        start = max(0, position - 65536)
        end = os.pread(descriptor, position - start, start).rfind(b"\n")
        if end >= 0:
            os.ftruncate(descriptor, start + end + 1)
            return
        position = start
    os.ftruncate(descriptor, 0)


def _lines(records: Sequence[Record]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def _append(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _brief(error: BaseException) -> str:
    return scrub((str(error).splitlines() or [type(error).__name__])[0][:300])
