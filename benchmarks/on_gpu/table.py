"""Results as lines, as a table, and as JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from on_gpu.course import Result

_HEAD = ("part", "what", "ms a step", "x plain", "images/s", "GiB", "of peak", "result")


def line(result: Result) -> str:
    """Return a result as a line, for those who watch."""
    row = result.row
    figures = [
        f"{value:{form}} {unit}"
        for value, form, unit in (
            (row.ms, ".1f", "ms a step"),
            (row.ratio, ".3f", "times plain"),
            (row.images, ".0f", "images/s"),
            (row.gib, ".1f", "GiB"),
        )
        if value is not None
    ]
    figures += [f"{row.share:.1%} of the peak"] if row.share is not None else []
    return f"{result.part}: {row.what}: " + "; ".join([row.status, *figures, *([row.text] if row.text else [])])


def table(results: Sequence[Result]) -> str:
    """Return all results as one table; those that are not `ok` have their reason below it."""
    rows = [_HEAD] + [_cells(result) for result in results]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    right = range(2, 7)
    lines = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    reasons = [line(result) for result in results if result.row.status != "ok"]
    return "\n".join([text.rstrip() for text in lines] + ([""] + reasons if reasons else []))


def _cells(result: Result) -> tuple[str, ...]:
    row = result.row
    shown = [
        "" if value is None else format(value, form)
        for value, form in (
            (row.ms, ".1f"),
            (row.ratio, ".3f"),
            (row.images, ".0f"),
            (row.gib, ".1f"),
            (row.share, ".1%"),
        )
    ]
    return result.part, row.what, *shown, row.status


def write(path: Path, facts: dict[str, Any], results: Sequence[Result], whole: bool) -> None:
    """Write the results as JSON; the file is whole at any time. whole: whether nothing is to come."""
    content = {
        "machine": facts,
        "complete": whole,
        "results": [{"part": result.part, **result.row.plain()} for result in results],
    }
    other = path.with_name(f".{path.name}.new")
    other.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(other, path)
