"""The process of probes that hang, die, print and fail; run as `python -m tests.doctor.strange_child`."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from hardviews.doctor import child
from hardviews.doctor.finding import ok
from hardviews.doctor.probe import Probe


def hang(settings):
    """Start another process too, and write its id where the test looks."""
    other = subprocess.Popen(["sleep", "1000"])
    Path(settings.output).write_text(str(other.pid))
    threading.Event().wait()


def die(settings):
    print("a driver says: password=plantedword", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGSEGV)


def chatter(settings):
    print("a library prints this on stdout")
    yield ok("chatter", "done")


def lack(settings):
    import nothing_of_this_name  # noqa: F401


def fail(settings):
    raise RuntimeError("token=plantedword")


PROBES = tuple(
    Probe(function.__name__, "this machine", function, together="shared" if function in (chatter, hang, die) else "")
    for function in (chatter, fail, hang, die, lack)
)

if __name__ == "__main__":
    child.PROBES = PROBES
    child.main(sys.argv[1:])
