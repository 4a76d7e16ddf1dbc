"""The progress of a long command and its remaining time."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hardviews.notebook import NotebookBar, in_notebook

T = TypeVar("T")

_EVERY = 30.0  # seconds between lines without a terminal


def progress(items: Iterable[T], total: int, title: str, show: bool = True) -> Iterator[T]:
    """Yield the items and show progress: a bar on a terminal or in a notebook, else a line every 30 seconds."""
    if not show:
        yield from items
        return
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn())
        with Progress(*columns, *left, console=Console(stderr=True), transient=True) as bar:
            yield from bar.track(items, total=total, description=title)
        return
    began = printed = time.monotonic()
    page = NotebookBar() if in_notebook() else None
    for count, item in enumerate(items, 1):
        yield item
        if page is not None:
            page.update(count, total, title)
            continue
        now = time.monotonic()
        if now - printed > _EVERY:
            printed = now
            seconds = (now - began) / count * (total - count)
            print(f"{title}: {count} of {total}, {seconds:.0f} s left", file=sys.stderr, flush=True)
