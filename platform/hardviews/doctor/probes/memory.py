"""Memory of this machine or container, and the limit on a process's address space."""

import re
from collections.abc import Iterator
from pathlib import Path

from hardviews.doctor.finding import Finding, ok, warning
from hardviews.doctor.probe import MACHINE, Probe
from hardviews.doctor.settings import Doctor
from hardviews.elastic.processes import memory_limit

_LEAST = 2.5e9  # bytes that a small training process needs, torch's libraries among them


def look(settings: Doctor) -> Iterator[Finding]:
    """Compare the memory that is left with that of a small training."""
    limit, whose = memory_limit()
    free = min(limit, available() or limit)
    text = f"{limit / 1e9:.1f} GB ({whose.removeprefix('the ')}), {free / 1e9:.1f} GB available"
    if free < _LEAST:
        yield warning(
            "memory", f"{text}; a small training takes {_LEAST / 1e9:.1f} GB", "End other processes, or --memMB 4000"
        )
    else:
        yield ok("memory", text)


def available(file: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes that can be had without swapping, None if the kernel does not say."""
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


PROBE = Probe("memory", MACHINE, look)
