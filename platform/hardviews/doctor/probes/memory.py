"""Memory of this machine or container, and the limit on a process's address space."""

import re
from collections.abc import Iterator
from pathlib import Path

from hardviews.doctor.finding import Finding, ok, warning
from hardviews.doctor.probe import MACHINE, Probe
from hardviews.doctor.settings import Doctor
from hardviews.elastic.processes import memory_limit

_LEAST = 2.5e9  # bytes that a small training process needs, including torch's libraries


def look(settings: Doctor) -> Iterator[Finding]:
    """Compare the available memory with the memory that a small training needs."""
    limit, whose = memory_limit()
    free = min(limit, available() or limit)
    text = f"{limit / 1e9:.1f} GB ({whose.removeprefix('the ')}), {free / 1e9:.1f} GB available"
    if free < _LEAST:
        yield warning(
            "memory",
            f"{text}; a small training needs {_LEAST / 1e9:.1f} GB",
            "End other processes, or give a job more: --memMB 4000",
        )
    else:
        yield ok("memory", text)


def available(file: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes that are available without swapping, None if the kernel does not report them."""
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


PROBE = Probe("memory", MACHINE, look)
