"""Processor cores, and the limit of a container on them."""

import os
from collections.abc import Iterator
from pathlib import Path

from hardviews.doctor.finding import Finding, ok, warning
from hardviews.doctor.probe import MACHINE, Probe
from hardviews.doctor.settings import Doctor


def look(settings: Doctor) -> Iterator[Finding]:
    """Compare the cores that this process may use with the limit of its container."""
    total, usable, limit = os.cpu_count() or 1, len(os.sched_getaffinity(0)), cpu_limit()
    text = f"{usable} of {total} usable" if usable < total else f"{total}"
    if limit is not None and limit < usable:
        # The default number of loader workers follows the cores of the process; this limit does not lower it.
        yield warning(
            "cores",
            f"{text}, and the container may use {limit:.3g} of them at a time: more processes only wait",
            f"--loader.workers {max(1, int(limit) - 1)}, OMP_NUM_THREADS={max(1, int(limit))}",
        )
    else:
        yield ok("cores", text + (f", limit of the container {limit:.3g}" if limit is not None else ""))


def cpu_limit(top: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the cores that the container may use at a time, None if there is no limit."""
    try:
        quota, period = (top / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((top / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    return float(quota) / float(period) if quota not in ("max", "-1") else None


PROBE = Probe("cores", MACHINE, look)
