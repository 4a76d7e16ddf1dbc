"""The table of trials from which rates are chosen, each judged on held-out labels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hardviews.evaluation.probe import ends_of
from hardviews.evaluation.statistics import Interval, wilson


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes:
        learning_rate: `optimizer.learning_rate`.
        head_rate: `optimizer.head_rate`.
        top1: held-out accuracy in per cent.
        nll: held-out negative log-likelihood in nats; None if the training diverged.
        steps: number of steps of the training.
        diverged: number that was not finite, if the training diverged.
    """

    learning_rate: float
    head_rate: float
    top1: float
    nll: float | None
    steps: int
    diverged: str = ""

    @property
    def rates(self) -> str:
        """Return both rates in words."""
        return f"learning rate {self.learning_rate:g}, classifier {self.learning_rate * self.head_rate:g}"

    @property
    def worth(self) -> tuple[float, float, float, float]:
        """Return the key by which the best trial is the largest: top-1, then likelihood, then smaller rates."""
        likelihood = -self.nll if self.nll is not None else float("-inf")
        return self.top1, likelihood, -self.learning_rate, -self.head_rate


@dataclass(frozen=True)
class RateTable:
    """All trials of a sweep.

    Attributes:
        trials: all trials in the order of their training.
        held_out: number of images that they were judged on.
        fitted: number of images that they were trained on.
        names: checksum and size of each held-out image.
    """

    trials: tuple[Trial, ...]
    held_out: int
    fitted: int
    names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def chosen(self) -> Trial:
        """Return the trial of the highest held-out top-1; ties go to the lower loss, then to the smaller rates."""
        return max(self.trials, key=lambda trial: trial.worth)

    @property
    def interval(self) -> Interval:
        """Return the held-out top-1 of the choice, with its 95 % interval."""
        return wilson(round(self.chosen.top1 * self.held_out / 100), self.held_out)

    @property
    def remarks(self) -> list[str]:
        """Return sentences on how far the choice can be trusted."""
        best, interval = self.chosen, self.interval
        others = [trial for trial in self.trials if trial is not best and trial.top1 >= interval.low]
        sentences = [
            f"The choice rests on {self.held_out:,} held-out images, one of which is {100 / self.held_out:.2g} points. "
            f"The 95 % interval of the best trial is {interval.low:.1f} to {interval.high:.1f} %; other trials in it: "
            f"{len(others)} of {len(self.trials) - 1}."
        ]
        settings = [{"learning_rate": one.learning_rate, "head_rate": one.head_rate} for one in self.trials]
        accuracy = {number: one.top1 for number, one in enumerate(self.trials)}
        number = self.trials.index(best)
        sentences += [remark for name in settings[0] for remark in ends_of(name, settings, accuracy, number)]
        return sentences

    def rows(self) -> list[dict[str, Any]]:
        """Return the table, a row for each trial."""
        return [
            {
                "learning rate": trial.learning_rate,
                "classifier's rate": trial.learning_rate * trial.head_rate,
                "held-out top-1 (%)": round(trial.top1, 2),
                "held-out loss": None if trial.nll is None else round(trial.nll, 4),
                "chosen": "yes" if trial is self.chosen else "",
                "remark": trial.diverged,
            }
            for trial in self.trials
        ]

    def markdown(self) -> str:
        """Return the table and the remarks for a page."""
        lines = ["| learning rate | classifier | held-out top-1 | held-out loss |", "|---:|---:|---:|---:|"]
        for trial in self.trials:
            mark = "**" if trial is self.chosen else ""
            loss = "diverged" if trial.nll is None else f"{trial.nll:.3f}"
            rates = f"{mark}{trial.learning_rate:g}{mark} | {trial.learning_rate * trial.head_rate:g}"
            lines.append(f"| {rates} | {mark}{trial.top1:.1f}{mark} | {loss} |")
        return "\n".join([*lines, "", *(f"* {remark}" for remark in self.remarks)])

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping that `from_dict` reads."""
        return asdict(self)

    @staticmethod
    def from_dict(held: Mapping[str, Any]) -> "RateTable":
        """Read a table.

        Raises:
            KeyError, TypeError: it is not a table.
        """
        trials: Sequence[Mapping[str, Any]] = held["trials"]
        return RateTable(
            tuple(Trial(**trial) for trial in trials), held["held_out"], held["fitted"], tuple(held["names"])
        )
