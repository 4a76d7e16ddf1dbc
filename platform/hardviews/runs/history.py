"""The run's own record of its metrics: one JSON line a report.

It is a part of every checkpoint, so that a resumed run has all reports up to there. If the output is on this machine,
each line is also appended to a file beside the checkpoints, for a look while the run trains. In an object store the
file appears at the end.
"""

import json
import logging
from pathlib import Path
from typing import Any

from hardviews.failures import of_machine
from hardviews.storage.failures import DiskFailure
from hardviews.storage.store import Store, open_store

logger = logging.getLogger(__name__)

NAME = "history.jsonl"


class History:
    """Metrics by step: in memory, as lines, and in `history.jsonl`."""

    def __init__(self, output: str, before: bytes, write: bool) -> None:
        """Take over the lines of a checkpoint; later lines of an earlier life belong to steps that are run again."""
        self.store = open_store(output)
        self._writes = write
        self._behind = False  # the file lacks lines
        self._lines = before.splitlines(keepends=True)
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in self._lines]
        self.path = Path(self.store.path) / NAME if write and self.store.path is not None else None
        if self.path is not None:
            self._write_whole()

    def add(self, row: dict[str, Any]) -> None:
        """Append a report."""
        line = json.dumps(row).encode() + b"\n"
        self.rows.append(row)
        self._lines.append(line)
        if self.path is not None:
            try:
                self._append(line)
            except (OSError, DiskFailure) as error:
                self._not_written(error)

    def _append(self, line: bytes) -> None:
        if self.path is None:
            return
        if self._behind:
            # A part of a line may be in the file, and other lines are missing.
            self._write_whole()
            logger.warning("%s is written again, and whole", self.path)
            self._behind = False
            return
        with self.path.open("ab") as stream:
            stream.write(line)

    def _write_whole(self) -> None:
        self.store.write(NAME, b"".join(self._lines))

    def _not_written(self, error: Exception) -> None:
        """Log once that the disk failed; the lines stay in memory and go into every checkpoint."""
        if not self._behind:
            remedy = of_machine(error, str(self.path))
            logger.warning(
                "the metrics could not be written: %s Training goes on; a later report writes them too.",
                str(error) if remedy is None else remedy.words,
            )
        self._behind = True

    def so_far(self) -> "Lines":
        """Return the lines up to now, without later rows."""
        return Lines(self._lines, len(self._lines))

    def publish(self) -> None:
        """Write the whole file, if the output is not on this machine or its disk failed before.

        Raises:
            UserError: the file cannot be written.
        """
        if self._writes and (not self.store.local or self._behind):
            self.store.write(NAME, b"".join(self._lines))
            self._behind = False

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Return samples seen and values of a metric."""
        found = [(row["samples"], row[name]) for row in self.rows if name in row]
        return [float(x) for x, _ in found], [float(y) for _, y in found]


class Lines:
    """The first lines of a list that only grows; the thread that writes them joins them."""

    def __init__(self, lines: list[bytes], count: int) -> None:
        self._lines, self._count = lines, count

    def __call__(self) -> bytes:
        """Return the joined lines."""
        return b"".join(self._lines[: self._count])


def read_rows(output: str) -> list[dict[str, Any]]:
    """Return the written reports of a run at a path or URL, from its file or its newest checkpoint.

    A last line that is still being written is left out.

    Raises:
        UserError: the store cannot be read.
    """
    store = open_store(output)
    rows = _parsed(store, NAME)
    if rows:
        return rows
    # In an object store the file appears when the run is over.
    checkpoints = store.inside("checkpoints")
    for name in sorted(checkpoints.folders(), reverse=True):
        rows = _parsed(checkpoints, f"{name}/{NAME}")
        if rows:
            break
    return rows


def _parsed(store: Store, file: str) -> list[dict[str, Any]]:
    try:
        lines = store.read(file).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
