"""The contract of a probe: it looks at one thing of this machine, a store or a cluster."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hardviews.doctor.finding import Finding
from hardviews.doctor.settings import Doctor

MACHINE, DATA, OUTPUT, TRACKING, KUBERNETES = "this machine", "data", "output", "MLflow", "Kubernetes"
"""Sections of the report."""


@dataclass(frozen=True)
class Probe:
    """One look.

    Attributes:
        name: unique; it stands for the probe in the report's JSON.
        section: of the report.
        run: looks, in a process of its own, and returns what it found. It may raise UserError and ImportError.
        least: seconds that it may take, if `--timeout` allows less: large libraries are imported for long.
        together: probes with the same word share one process, in their order, and so what they have opened.
    """

    name: str
    section: str
    run: Callable[[Doctor], Iterable[Finding]]
    least: float = 0.0
    together: str = ""
