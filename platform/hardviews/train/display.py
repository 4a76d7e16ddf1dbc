"""Progress for people: a bar with ETA on a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hardviews.notebook import NotebookBar, in_notebook

_LINE_EVERY = 15.0  # seconds, in a log
_FIRST_LINE = 3.0  # seconds until the first line, which comes early: it shows that the run works, and its duration


class Display:
    """Shows the progress of a run, its loss, images per second and the share of time spent waiting for data."""

    def __init__(self, total: int, done: int, show: bool) -> None:
        """Begin at `done` of `total` samples; nothing is drawn unless `show` is set, as on rank 0."""
        self.total, self.done, self.show = total, done, show
        self.began, self.first = time.monotonic(), done
        self._line = _FIRST_LINE - _LINE_EVERY
        self._bar: Progress | None = None
        self._page = NotebookBar() if show and in_notebook() else None
        if show and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f}%  loss {task.fields[loss]:.4f}"),
                TextColumn("{task.fields[rate]:.0f} images/s  data wait {task.fields[wait]:.0%}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=total, completed=done, epoch=0, loss=0.0, rate=0.0, wait=0.0)

    def update(self, done: int, epoch: int, loss: float, wait: float) -> None:
        """Show a step: samples seen so far, its loss, and the share of time spent waiting for data."""
        self.done = done
        if not self.show:
            return
        elapsed = time.monotonic() - self.began
        rate = (done - self.first) / max(elapsed, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, epoch=epoch + 1, loss=loss, rate=rate, wait=wait)
            return
        left = (self.total - done) / max(rate, 1e-9)
        line = (
            f"epoch {epoch + 1}  {done / self.total:4.0%}  loss {loss:.4f}  {rate:.0f} images/s  "
            f"data wait {wait:.0%}  ETA {int(left // 60)}:{int(left % 60):02d}"
        )
        if self._page is not None:
            self._page.update(done, self.total, line)
        elif elapsed - self._line >= _LINE_EVERY or done >= self.total:
            self._line = elapsed
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> "Display":
        """Begin to draw."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
