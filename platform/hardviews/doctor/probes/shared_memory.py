"""/dev/shm, which holds the locks of loader workers."""

import errno
import os
from collections.abc import Iterator
from multiprocessing import get_context

from hardviews.doctor.finding import Finding, missing, ok, warning
from hardviews.doctor.probe import MACHINE, Probe
from hardviews.doctor.settings import Doctor

PATH = "/dev/shm"
_LARGER = "docker run --shm-size=1g; --shm 1000 for a job on Kubernetes; or --loader.workers 0"
_LEAST = 8e6  # bytes for the locks and queues of many workers; batches are in other memory


def look(settings: Doctor) -> Iterator[Finding]:
    """Create a lock there, and read the free space."""
    if not os.path.isdir(PATH):
        yield missing("/dev/shm", "it is missing: loader workers cannot be started", "mount -t tmpfs tmpfs /dev/shm")
        return
    try:
        get_context("forkserver").Lock()
    except OSError as error:
        reason = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
        yield missing("/dev/shm", f"no lock can be created there ({reason}): loader workers cannot be started", _LARGER)
        return
    found = os.statvfs(PATH)
    free, size = (blocks * found.f_frsize for blocks in (found.f_bavail, found.f_blocks))
    text = f"{free / 1e6:.0f} of {size / 1e6:.0f} MB free"
    yield (
        ok("/dev/shm", text) if free >= _LEAST else warning("/dev/shm", f"{text}: not much for loader workers", _LARGER)
    )


PROBE = Probe("/dev/shm", MACHINE, look)
