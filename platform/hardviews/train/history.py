"""The run's own record of its metrics: one JSON line a report.

It is a part of every checkpoint, so that whoever goes on with the run knows all that was reported up to there. Where
the output is on this machine it is also appended to beside the checkpoints, to be looked at while the run trains; in
an object store it appears there at the end.
"""

import json
import os
from pathlib import Path
from typing import Any

from hardviews.storage.store import Store

NAME = "history.jsonl"


class History:
    """Metrics by step: in memory, as lines, and in `history.jsonl`."""

    def __init__(self, output: str, before: bytes, write: bool) -> None:
        """Take over the lines of a checkpoint; what an earlier life wrote after them belongs to steps run again."""
        self.store = Store(output)
        self._lines = before.splitlines(keepends=True)
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in self._lines]
        self.path = Path(self.store.path) / NAME if write and self.store.path is not None else None
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(".tmp")
            temporary.write_bytes(before)
            os.replace(temporary, self.path)

    def add(self, row: dict[str, Any]) -> None:
        """Append a report."""
        line = json.dumps(row).encode() + b"\n"
        self.rows.append(row)
        self._lines.append(line)
        if self.path is not None:
            with self.path.open("ab") as stream:
                stream.write(line)

    def so_far(self) -> "Lines":
        """Return the lines up to now; rows that follow do not show in it."""
        return Lines(self._lines, len(self._lines))

    def publish(self) -> None:
        """Write the whole of it into an output that is not on this machine."""
        if not self.store.local:
            self.store.write(NAME, b"".join(self._lines))

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Return samples seen and values of a metric."""
        found = [(row["samples"], row[name]) for row in self.rows if name in row]
        return [float(x) for x, _ in found], [float(y) for _, y in found]


class Lines:
    """The first lines of a list that only grows, joined when they are wanted: by the thread that writes them."""

    def __init__(self, lines: list[bytes], count: int) -> None:
        """Remember how many there are now."""
        self._lines, self._count = lines, count

    def __call__(self) -> bytes:
        """Return them as one."""
        return b"".join(self._lines[: self._count])
