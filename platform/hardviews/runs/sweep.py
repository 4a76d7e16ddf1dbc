"""Closes runs that processes of this machine left RUNNING because they were killed outright.

Only proof counts: the processes are known by id and time of start, and are gone. Silence does not count here: it takes
half a minute to observe, and the clocks of two machines differ. A run that is closed by mistake is RUNNING again within
a minute (`tracking.sender`).
"""

import logging
import threading
import time

from hardviews.elastic.identity import have_ended
from hardviews.runs.verdict import last_life, proven
from hardviews.tracking.runs import Entry, close_run, entries
from hardviews.tracking.server import Server

LONGEST = 2.0  # seconds that a sweep may last

logger = logging.getLogger(__name__)


def sweep(server: Server, own: str, longest: float = LONGEST) -> threading.Thread:
    """Begin to close, in the background, runs of a store that are provably dead; return the thread.

    Nobody waits for the thread. `own` is the id of this process's run, which is left alone. After `longest` seconds
    nothing more is begun.
    """
    thread = threading.Thread(
        target=_sweep, args=(server, own, time.monotonic() + longest), name="tracking-sweep", daemon=True
    )
    thread.start()
    return thread


def _sweep(server: Server, own: str, deadline: float) -> None:
    try:
        for entry in entries(server, running=True):
            if time.monotonic() > deadline:
                return
            if entry.run_id != own and _may_be_ours(entry):
                _close(server, entry, deadline)
    except Exception as error:  # of any kind: the job itself reports a store that fails
        logger.debug("tracking: runs that are dead could not be looked for (%s)", type(error).__name__)


def _may_be_ours(entry: Entry) -> bool:
    """Return whether to look at the output of a run: not for a run of another machine."""
    return have_ended(entry.processes) or (not entry.processes and "://" not in entry.output)


def _close(server: Server, entry: Entry, deadline: float) -> None:
    try:
        verdict = proven(entry, last_life(entry))
    except Exception as error:
        logger.debug("tracking: %s could not be read (%s)", entry.output, type(error).__name__)
        return
    if verdict is None or time.monotonic() > deadline:
        return
    status, evidence = verdict
    close_run(server, entry.run_id, status, evidence, entry.heard)
    logger.warning(
        "tracking: run %s (%s) was left RUNNING and is closed as %s: %s", entry.run_id, entry.name, status, evidence
    )
