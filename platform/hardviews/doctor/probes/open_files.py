"""The limit on open files of a process."""

import resource
from collections.abc import Iterator

from hardviews.doctor.finding import Finding, ok, warning
from hardviews.doctor.probe import MACHINE, Probe
from hardviews.doctor.settings import Doctor

_LEAST = 1024  # open shards, pipes of workers and connections to a store, in one process


def look(settings: Doctor) -> Iterator[Finding]:
    """Compare the soft limit with the number that a training with loader workers needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _LEAST:
        yield ok("open files", f"at most {'any number' if soft == resource.RLIM_INFINITY else soft} in a process")
        return
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    text = f"at most {soft} in a process: a training with loader workers may exceed that"
    yield warning(
        "open files", text, f"ulimit -n {most}" if most >= _LEAST else "ulimit -n 65536, as the administrator"
    )


PROBE = Probe("open files", MACHINE, look)
