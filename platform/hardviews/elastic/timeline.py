"""The times of events in a job's processes, as lines of JSON: they measure the duration of a recovery."""

import json
import os
import sys
import time

VARIABLE = "HARDVIEWS_TIMELINE"
"""Environment variable: file to append lines to, `-` for stderr; if unset, nothing is written."""


def mark(event: str, **fields: object) -> None:
    """Write an event with the wall-clock time, this process, its rank and the given fields."""
    target = os.environ.get(VARIABLE)
    if not target:
        return
    entry = {"time": round(time.time(), 4), "event": event, "pid": os.getpid()}
    for name, variable in (("node", "HARDVIEWS_NODE"), ("rank", "RANK"), ("round", "HARDVIEWS_ROUND")):
        if value := os.environ.get(variable):
            entry[name] = int(value) if name != "node" and value.isdecimal() else value
    line = json.dumps(entry | fields) + "\n"
    if target == "-":
        sys.stderr.write(line)
        sys.stderr.flush()
        return
    try:
        # One write to a file opened for appending: lines of several processes do not mix.
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        print(f"{VARIABLE}: cannot write {target}: {error.strerror}", file=sys.stderr)
