"""Proves from a run's newest checkpoint that its training used every sample of every epoch's order exactly once.

The order of an epoch is a pure function of the dataset and the seed. So the expected samples are computed again here,
and compared with the samples in the ledger. Two kinds are listed, but are not part of the proof: steps rolled back when
a life ended without notice, and the few samples at an epoch's end that do not fill a batch.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from hardviews.data.index import Index
from hardviews.data.order import Order
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.errors import UserError
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.ledger import MODULUS, Range, digest
from hardviews.runs.life import Life, read_lives
from hardviews.runs.manifest import Damaged, Manifest
from hardviews.runs.record import Record
from hardviews.runs.where import open_dataset
from hardviews.storage.url import check_given

_CHUNK = 1 << 20  # number of positions whose digest is computed at once
_SHOWN = 5  # number of samples that a cell of the table lists


@dataclass(frozen=True)
class Audit:
    """The run to audit.

    Attributes:
        run: output of a pretraining, a folder or URL.
        data: URL of the dataset that it was trained on; None is the place that the run read from.
        json: print the report as JSON.
    """

    run: tyro.conf.Positional[str]
    data: str | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse places that are not named."""
        check_given(run=self.run, data=self.data)


@dataclass(frozen=True)
class Epoch:
    """The outcome of one epoch.

    Attributes:
        number: number of the epoch, from 0.
        expected: number of positions to be trained on; in the current epoch the positions up to the checkpoint.
        lost: number of these positions that the ledger lacks.
        repeated: number of positions that the ledger has more than once.
        wrong: number of positions in ranges with another digest than the order's: other samples were trained on.
        substituted: number of positions at which another sample replaced a corrupt one.
        left_out: samples that do not fill a batch.
    """

    number: int
    expected: int
    lost: int
    repeated: int
    wrong: int
    substituted: int
    left_out: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True)
class Report:
    """The outcome: the proof holds if there are no `problems`."""

    run: str
    checkpoint: str
    step: int
    epochs: tuple[Epoch, ...]
    lives: tuple[Life, ...]
    rolled_back: int
    rolled_back_exact: bool
    problems: tuple[str, ...]

    @property
    def lost(self) -> int:
        """Number of positions that were not trained on."""
        return sum(epoch.lost for epoch in self.epochs)

    @property
    def repeated(self) -> int:
        """Number of positions that were trained on more than once."""
        return sum(epoch.repeated for epoch in self.epochs)

    @property
    def verdict(self) -> str:
        """The outcome in one line."""
        counts = f"{self.lost} samples lost, {self.repeated} repeated"
        if not self.problems:
            return f"{counts}: every position of the order was trained on exactly once, up to step {self.step}"
        return f"{counts}; NOT exactly once: " + "; ".join(self.problems)

    def to_json(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        return asdict(self) | {
            "lost": self.lost,
            "repeated": self.repeated,
            "exactly_once": not self.problems,
            "verdict": self.verdict,
        }


def run_audit(config: Audit) -> None:
    """Audit, print the report, and exit with 1 if the proof fails."""
    report = audit(config.run, config.data)
    if config.json:
        print(json.dumps(report.to_json(), indent=1))
    else:
        show(report)
    if report.problems:
        sys.stdout.flush()
        raise SystemExit(1)


def audit(run: str, data: str | None = None) -> Report:
    """Audit the run in an output on the dataset that it was trained on, which may have moved.

    Raises:
        UserError: there is no run or no checkpoint, or the dataset is another one.
    """
    record = Record.read(run)
    if record is None:
        raise UserError(f"There is no run at {run} (no run.json). Give the --output of a `hardviews pretrain`.")
    index = open_dataset(data or record.data)
    if index.digest != record.dataset:
        raise UserError(
            f"The run at {run} was trained on another dataset (digest {record.dataset[:12]}) than the one at "
            f"{index.url} ({index.digest[:12]}). Give --data as it was given to the training."
        )
    name, manifest, problems = _newest_whole(Checkpoints(run))
    orders = _Orders(index, record.settings)
    epochs, found = check(manifest, orders)
    lives = tuple(read_lives(run))
    exact = all(life.exact or life.before is None for life in lives)
    return Report(
        run,
        name,
        manifest.progress.step,
        epochs,
        lives,
        sum(life.rolled_back for life in lives),
        exact,
        (*problems, *found),
    )


class _Orders:
    """The order of each epoch by the settings of the run."""

    def __init__(self, index: Index, settings: Mapping[str, str]) -> None:
        try:
            numbers = {key: _number(settings[key]) for key in ("training.batch", "training.group", "training.seed")}
            streams, window = (_number(settings[f"loader.reader.{key}"]) for key in ("streams", "window"))
            self.batch, self.group, self.seed = (int(number or 0) for number in numbers.values())
        except (KeyError, ValueError) as error:
            raise UserError(f"run.json lacks the settings that make the order of the samples ({error}).") from error
        self._reader = Reader(index, ReaderConfig(streams=streams, window=window))
        self._index = index

    def epoch(self, number: int) -> Order:
        return self._reader.order(self.seed, number, self.batch, self.group)

    def used(self, number: int) -> int:
        """Return the number of positions of an epoch that fill whole batches."""
        return self.epoch(number).length // self.batch * self.batch

    def left_out(self, number: int) -> tuple[int, ...]:
        order = self.epoch(number)
        tail = order.indices(self.used(number), order.length)
        return tuple(int(i) for i in np.concatenate([tail, order.tail]))


def check(manifest: Manifest, orders: _Orders) -> tuple[tuple[Epoch, ...], list[str]]:
    """Compare a ledger with the orders of its epochs; return the outcome of each epoch, and the problems."""
    problems: list[str] = []
    under_way, consumed = divmod(manifest.progress.samples, orders.used(0))
    count = max([under_way, *(entry.epoch for entry in manifest.ranges)], default=0) + 1
    epochs = []
    for number in range(count):
        ranges = [entry for entry in manifest.ranges if entry.epoch == number]
        full = orders.used(number)
        expected = full if number < under_way else consumed if number == under_way else 0
        lost, repeated = _coverage(ranges, expected)
        outside = sum(max(0, entry.stop - max(entry.start, expected)) for entry in ranges)
        wrong = sum(entry.stop - entry.start for entry in ranges if not _as_ordered(entry, orders, full))
        if expected or ranges:
            substituted = sum(entry.substituted for entry in ranges)
            left_out = orders.left_out(number) if expected == full else ()
            epochs.append(Epoch(number, expected, lost, repeated, wrong, substituted, left_out))
        for amount, what in (
            (lost, "positions were not trained on"),
            (repeated, "positions were trained on more than once"),
            (outside, "positions were trained on beyond where the checkpoint stands"),
            (wrong, "positions lie in ranges that were trained on other samples than the order names"),
        ):
            if amount:
                problems.append(f"epoch {number + 1}: {amount} {what}")
    problems += _steps(manifest, orders)
    return tuple(epochs), problems


def _coverage(ranges: Sequence[Range], expected: int) -> tuple[int, int]:
    """Return the number of positions in [0, expected) that are missing, and the number that occur more than once."""
    lost = repeated = reached = 0
    for entry in sorted(ranges, key=lambda entry: entry.start):
        lost += max(0, min(entry.start, expected) - reached)
        repeated += max(0, min(entry.stop, reached) - entry.start)
        reached = max(reached, entry.stop)
    return lost + max(0, expected - reached), repeated


def _as_ordered(entry: Range, orders: _Orders, full: int) -> bool:
    if not 0 <= entry.start <= entry.stop <= full:
        return False
    order, total = orders.epoch(entry.epoch), 0
    for start in range(entry.start, entry.stop, _CHUNK):
        stop = min(start + _CHUNK, entry.stop)
        total += digest(entry.epoch, np.arange(start, stop), order.indices(start, stop))
    return total % MODULUS == entry.digest


def _steps(manifest: Manifest, orders: _Orders) -> list[str]:
    """Return the contradictions between steps of the ledger, or between them and the checkpoint's numbers."""
    progress, problems, last = manifest.progress, [], 0
    for entry in manifest.ranges:
        if entry.first_step != last + 1 or (entry.last_step - last) * orders.batch != entry.stop - entry.start:
            problems.append(f"steps {entry.first_step} to {entry.last_step} do not follow step {last}")
        last = entry.last_step
    trained = sum(entry.stop - entry.start for entry in manifest.ranges)
    if (progress.step, progress.samples) != (last, trained):
        problems.append(
            f"the checkpoint stands at step {progress.step} and {progress.samples} samples, its ledger at step {last} "
            f"and {trained}"
        )
    return problems


def _newest_whole(checkpoints: Checkpoints) -> tuple[str, Manifest, list[str]]:
    problems: list[str] = []
    for name in checkpoints.names():
        try:
            manifest = checkpoints.manifest(name)
            if manifest is None:
                continue
            checkpoints.verify(name, manifest)
            return name, manifest, problems
        except Damaged as error:
            problems.append(f"the checkpoint {name} is damaged: {error}")
    damage = f" ({'; '.join(problems)})" if problems else ""
    raise UserError(
        f"There is no whole checkpoint in {checkpoints.store.url}{damage}, so there is nothing to audit yet."
    )


def show(report: Report) -> None:
    """Print the report as tables and its verdict."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    lives = Table("life", "began", "host", "processes", "from step", "to step", "ended", "rolled back", title="lives")
    for life in report.lives:
        lives.add_row(
            str(life.number),
            datetime.fromtimestamp(life.began, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            life.host,
            str(life.world),
            str(life.resumed),
            f"{life.reached}{'' if life.end else ' at least'}",
            life.end or "without notice, or goes on",
            "" if life.before is None else f"{life.rolled_back}{'' if life.exact else ' at least'}",
        )
    console.print(lives)
    epochs = Table("epoch", "positions", "lost", "repeated", "wrong", "stood in", "left out", title="epochs")
    for epoch in report.epochs:
        left = f"{len(epoch.left_out)}: {', '.join(map(str, epoch.left_out[:_SHOWN]))}" if epoch.left_out else "-"
        counts = (epoch.lost, epoch.repeated, epoch.wrong, epoch.substituted)
        epochs.add_row(
            str(epoch.number + 1),
            str(epoch.expected),
            *map(str, counts),
            left + (", ..." if len(epoch.left_out) > _SHOWN else ""),
        )
    console.print(epochs)
    least = "" if report.rolled_back_exact else "at least "
    print(f"steps rolled back and run again: {least}{report.rolled_back}")
    print(f"checkpoint {report.checkpoint} of {report.run}")
    print(report.verdict)


def _number(text: str) -> int | None:
    return None if text == "None" else int(text)
