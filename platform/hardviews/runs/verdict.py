"""The true end of a run that is RUNNING in the tracking store, by its last life, its processes, or its silence."""

import logging

from hardviews.elastic.identity import have_ended
from hardviews.errors import UserError
from hardviews.runs.life import End, Life, read_lives
from hardviews.tracking.mlflow_run import Status
from hardviews.tracking.runs import Entry

Verdict = tuple[Status, str]
"""The end of a run, and the evidence in words."""

# Seconds after the end of a life in which the next one may begin.
_NEXT = 60.0
_ENDS: dict[End, Status] = {
    "finished": "FINISHED",
    "evicted": "KILLED",
    "failed": "FAILED",
    "interrupted": "FAILED",
}


def judge(entry: Entry, silence: float, now: float) -> Verdict | None:
    """Return the true end of a run that is RUNNING in the store, None if it may go on.

    `silence` is in seconds, `now` in seconds since 1970.
    """
    try:
        last = last_life(entry)
    except (UserError, OSError) as error:
        logging.getLogger(__name__).warning("%s cannot be read (%s)", entry.output, error)
        last = None
    found = proven(entry, last)
    if found is not None:
        return found
    if last is not None and last.end is not None and now - last.updated > _NEXT:
        return _by_note(last, last.end)
    quiet = now - max(entry.heard, last.updated if last is not None else 0.0)
    return ("KILLED", f"silent for {ago(quiet)}") if quiet > silence else None


def proven(entry: Entry, last: Life | None) -> Verdict | None:
    """Return the end of a run if its processes were on this machine and are gone, else None.

    `last` is the newest life in the run's output, None if there is none. It counts more than the run's tag: it is
    written first when a life begins, and a tracking store may be away.
    """
    if not have_ended(entry.processes if last is None else last.processes):
        return None
    if last is None:
        return "KILLED", "its processes on this machine have ended"
    if last.end is not None:
        return _by_note(last, last.end)
    return "KILLED", f"the processes of its life {last.number} have ended, at step {last.reached} or later"


def last_life(entry: Entry) -> Life | None:
    """Return the newest life in the output of a run, None if there is none; raise UserError or OSError."""
    lives = read_lives(entry.output) if entry.output else []
    return lives[-1] if lives else None


def ago(seconds: float) -> str:
    """Return a time in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _by_note(last: Life, end: End) -> Verdict:
    return _ENDS[end], f"its life {last.number} was {end} at step {last.reached}"
