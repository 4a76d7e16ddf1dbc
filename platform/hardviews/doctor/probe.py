"""The contract of a probe: it examines one thing of this machine, a store or a cluster."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hardviews.doctor.finding import Finding
from hardviews.doctor.settings import Doctor

MACHINE, DATA, OUTPUT, TRACKING, KUBERNETES = "this machine", "data", "output", "MLflow", "Kubernetes"
"""Sections of the report."""


@dataclass(frozen=True)
class Probe:
    """One examination.

    Attributes:
        name: unique name, which is used in the report's JSON.
        section: section of the report.
        run: function that returns the findings. It runs in a separate process and may raise UserError and ImportError.
        least: seconds that it may take even if `--timeout` is shorter: imports of large libraries are slow.
        together: probes with the same word run in one process, in their order, and share open connections.
    """

    name: str
    section: str
    run: Callable[[Doctor], Iterable[Finding]]
    least: float = 0.0
    together: str = ""
