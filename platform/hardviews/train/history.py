"""The run's own record of its metrics: one JSON line a report, beside the checkpoints."""

import json
import os
from pathlib import Path
from typing import Any


class History:
    """Metrics by step, kept in memory and in `history.jsonl`."""

    def __init__(self, output: str, step: int, write: bool) -> None:
        """Take over what an earlier life wrote up to `step`; later lines belong to steps that are run again."""
        self.path = Path(output) / "history.jsonl"
        self.write = write
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            lines = self.path.read_text().splitlines()
            self.rows = [row for row in map(_parse, lines) if row is not None and row["step"] <= step]
        if write:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            os.replace(temporary, self.path)

    def add(self, row: dict[str, Any]) -> None:
        """Append a report."""
        self.rows.append(row)
        if self.write:
            with self.path.open("a") as stream:
                stream.write(json.dumps(row) + "\n")

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Return samples seen and values of a metric."""
        found = [(row["samples"], row[name]) for row in self.rows if name in row]
        return [float(x) for x, _ in found], [float(y) for _, y in found]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = json.loads(line)
        return row
    except ValueError:
        return None  # the last line of a life that was killed while it wrote
