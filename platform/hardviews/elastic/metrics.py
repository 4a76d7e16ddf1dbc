"""The metrics of a job, as text in the formats that Prometheus reads.

They are made for each reader from the present state of the job; there are no other counters. The coordinator imports
this file for its first reader: prometheus_client takes 3 MB and a tenth of a second. Agents never import it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from hardviews.elastic.messages import JobView


@dataclass(frozen=True)
class Figures:
    """A coordinator's figures of its job at one moment; None if unknown.

    Attributes:
        job: name of the job.
        view: state of the job.
        steps_per_second: mean of the last minutes.
        idle: seconds since the job reached its furthest step.
        batch: number of samples of a step, over all processes.
    """

    job: str | None
    view: JobView
    steps_per_second: float | None
    idle: float | None
    batch: int | None


def exposition(figures: Figures, accept: str) -> tuple[bytes, str]:
    """Write the metrics.

    Args:
        figures: the values.
        accept: header of the request with the formats that the reader accepts; may be empty.

    Returns:
        The text, and its content type.
    """
    registry = CollectorRegistry()
    registry.register(_Job(figures))
    try:
        encode, content = choose_encoder(accept)
    except (ValueError, TypeError):  # not a valid header
        encode, content = choose_encoder("")
    return encode(registry), content


class _Job(Collector):
    """The figures of one moment as metrics."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        figures, view = self._figures, self._figures.view
        members = view.training
        number = view.round.number if view.round else 0
        yield InfoMetricFamily("hardviews_job", "Name of the job.", {"name": figures.job or ""})
        nodes = GaugeMetricFamily("hardviews_nodes", "Nodes that train, and nodes that wait.", labels=["state"])
        nodes.add_metric(["training"], len(members))
        nodes.add_metric(["waiting"], view.waiting)
        yield nodes
        yield GaugeMetricFamily("hardviews_nodes_min", "Nodes that the job needs.", view.bounds.least)
        yield GaugeMetricFamily("hardviews_nodes_max", "Nodes that the job can use.", view.room)
        processes = sum(member.processes for member in members)
        yield GaugeMetricFamily("hardviews_processes", "Processes that train.", processes)
        yield GaugeMetricFamily("hardviews_round", "Number of the newest round, 0 before the first.", number)
        restarts = max(0, number - 1)
        yield CounterMetricFamily("hardviews_restarts", "Rounds begun after the first: a loss, or a join.", restarts)
        yield GaugeMetricFamily("hardviews_stuck", "1 if no process makes progress, else 0.", float(view.stuck))
        if view.reached is not None:
            yield GaugeMetricFamily("hardviews_step", "The furthest step.", view.reached)
        if figures.steps_per_second is not None:
            rate = figures.steps_per_second
            yield GaugeMetricFamily("hardviews_steps_per_second", "Steps per second, mean of two minutes.", rate)
            if figures.batch is not None:
                text = "Samples (images) per second, mean of two minutes."
                yield GaugeMetricFamily("hardviews_samples_per_second", text, rate * figures.batch)
        if figures.idle is not None:
            yield GaugeMetricFamily("hardviews_seconds_since_step", "Seconds since the furthest step.", figures.idle)
