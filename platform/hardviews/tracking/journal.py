"""A queue of records in a JSON-lines file, which outlives the process that writes it."""

import errno
import fcntl
import io
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hardviews.errors import UserError

Record = dict[str, Any]

# Size in bytes above which a completely sent file is emptied.
_COMPACT = 1 << 20
# Number of bytes that are read at once, unless a line is longer.
_AT_ONCE = 1 << 20
# Most bytes of records in memory if no file can be written.
_MOST = 32 << 20


class Journal:
    """Lines of records in a file, and the end of the sent part, in a second file beside it.

    One thread appends, another one reads and advances. `size` and `offset`, in bytes, are the end of the file and of
    the sent part.
    """

    damaged = 0
    """Lines that are not records, and were left out."""

    _bad = 0  # number among the lines read last

    def __init__(self, path: Path, lock_timeout: float = 30.0) -> None:
        """Open the file at `path` for this process alone.

        Raises:
            UserError: another live process holds the file.
            OSError: the disk cannot hold a file there.
        """
        self.path = path
        self._offset_path = path.with_suffix(".sent")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: io.FileIO = _open_locked(path, lock_timeout)
        _drop_torn_line(self._file.fileno())
        self.size = os.fstat(self._file.fileno()).st_size
        self.offset = self._read_offset()
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        """Write lines.

        Raises:
            OSError: the disk fails; then none of them is in the file.
        """
        view = memoryview(data)
        with self._lock:
            try:
                while view:
                    view = view[os.write(self._file.fileno(), view) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file.fileno(), self.size)
                raise
            self.size += len(data)

    def read(self, most: int) -> tuple[list[Record], int]:
        """Return unsent records, at most `most` of them, and the length of their lines in bytes."""
        found = self._lines(self.offset, self.size, most)
        records = _parse(found)
        self._bad = len(found) - len(records)
        return records, sum(map(len, found))

    def _lines(self, start: int, end: int, most: int) -> list[bytes]:
        left = end - start
        length = min(_AT_ONCE, left)
        data = os.pread(self._file.fileno(), length, start)
        while b"\n" not in data and length < left:
            length = min(2 * length, left)
            data = os.pread(self._file.fileno(), length, start)
        return data[: data.rfind(b"\n") + 1].splitlines(keepends=True)[:most]

    def advance(self, length: int) -> None:
        """Note that the next `length` bytes were sent.

        Raises:
            OSError: the disk fails. This process goes on; a later one would send the bytes once more.
        """
        self._move(length, _COMPACT)
        temporary = self._offset_path.with_suffix(".sent.part")
        try:
            temporary.write_text(str(self.offset))
            os.replace(temporary, self._offset_path)
        except OSError:
            # An old note would be wrong after the file was emptied. Without a note, all of the file is sent again.
            for path in (temporary, self._offset_path):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            raise

    def unsent(self, counts: Callable[[Record], bool]) -> int:
        """Return the number of unsent records, among those that count."""
        number, place, at = 0, self.size, self.offset
        with self._lock:
            while at < place:
                found = self._lines(at, place, 1000)
                if not found:
                    break
                number += sum(map(counts, _parse(found)))
                at += sum(map(len, found))
        return number

    def remove(self) -> None:
        """Remove the files."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            self._offset_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the file and its lock."""
        self._file.close()

    def _move(self, length: int, compact: int) -> None:
        with self._lock:
            self.offset += length
            self.damaged, self._bad = self.damaged + self._bad, 0
            if self.offset == self.size and self.size > compact:
                os.ftruncate(self._file.fileno(), 0)
                self.offset = self.size = 0

    def _read_offset(self) -> int:
        try:
            offset = int(self._offset_path.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        # Larger than the file: the process ended after it emptied the file and before it noted that.
        return offset if offset <= self.size else 0


class Memory(Journal):
    """The same if no file can be written: records are lost with the process."""

    def __init__(self, path: Path) -> None:
        """Keep records in the memory of this process; `path` is the place of the missing file."""
        self.path = path
        self._offset_path = path.with_suffix(".sent")
        self._file = io.FileIO(os.memfd_create(path.name), "a+")
        self.size = self.offset = 0
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        """Write lines.

        Raises:
            OSError: the limit of records in memory is reached.
        """
        if self.size + len(data) > _MOST:
            raise OSError(errno.ENOSPC, "no more memory for records", str(self.path))
        super().append(data)

    def advance(self, length: int) -> None:
        """Note that the next `length` bytes were sent, and free the memory once all are sent."""
        self._move(length, 0)

    def remove(self) -> None:
        """Do nothing: there are no files."""


def _parse(found: Sequence[bytes]) -> list[Record]:
    """Return the records in lines; damaged lines are left out."""
    records = []
    for line in found:
        with suppress(ValueError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


def lines(records: Sequence[Record]) -> list[bytes]:
    """Return records as lines of a journal."""
    return [json.dumps(record, default=str).encode() + b"\n" for record in records]


def _open_locked(path: Path, timeout: float) -> io.FileIO:
    """Open the file for this process alone; any end of the process releases the lock."""
    deadline = time.monotonic() + timeout
    while True:
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 (stays open)
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise UserError(
                    f"Another process is writing to the same tracking run: {path} is locked. Stop the other job, or "
                    "start this one as a run of its own."
                ) from None
            time.sleep(0.1)
        # Another process holds it, or has removed it: then the path now has another file.
        file.close()


def _drop_torn_line(descriptor: int) -> None:
    """Cut the part after the last newline: an incomplete record of a killed process."""
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
