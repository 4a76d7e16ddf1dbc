"""Reports of a training: the metrics of its last steps, to the tracking run and to the run's own history."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from hardviews.clock import Calendar
from hardviews.runs.history import History
from hardviews.tracking.metric_groups import in_groups
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.system import SystemMetrics
from hardviews.train.trainer import StepReport


class Reports:
    """Collects metrics from all sources, every few steps and after the last one."""

    def __init__(
        self,
        run: Run,
        history: History,
        calendar: Calendar,
        every: int,
        sources: Sequence[Callable[[], Mapping[str, float]]],
        machines: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """Report every `every` steps; each source returns its metrics since the last report, equal on every rank.

        `machines` returns figures of the machines, after the sources.
        """
        self._machines = machines
        self.run, self.history, self.calendar, self.every, self.sources = run, history, calendar, every, sources
        self._system = SystemMetrics()

    def step(self, report: StepReport, progress: int, measured: Mapping[str, float] = MappingProxyType({})) -> None:
        """Report if it is time; `progress` counts samples up to this step, `measured` is reported at once."""
        step = self.calendar.step(progress)
        if step % self.every and progress < self.calendar.total:
            self.measured(measured, progress)
            return
        metrics = {"loss": report.loss, "learning_rate": report.rate}
        for source in self.sources:
            metrics |= source()
        metrics |= measured
        metrics["epoch"] = progress / self.calendar.per_epoch
        # The machine's figures go to the tracking alone: the history holds only figures that a repeated run repeats.
        self.run.log_metrics(in_groups(metrics) | self._system.sample() | dict(self._machines()), progress)
        self.history.add({"step": step, "samples": progress, **metrics})

    def measured(self, metrics: Mapping[str, float], progress: int) -> None:
        """Report figures that do not come from a step, if there are any."""
        if metrics:
            self.run.log_metrics(metrics, progress)
            self.history.add({"step": self.calendar.step(progress), "samples": progress, **metrics})
