"""Free space on the disks of temporary files, the cache of shards and a local output."""

import os
from collections.abc import Iterator

from hardviews.doctor.finding import Finding, ok, warning
from hardviews.doctor.probe import MACHINE, Probe
from hardviews.doctor.settings import Doctor
from hardviews.storage.disk import TEMPORARY_FOLDER, in_words, nearest, room, temporary_folder, try_folder
from hardviews.storage.url import cache_folder, local_path

_LEAST = 2e9  # bytes: two checkpoints of a ResNet-50, and the record of a run


def look(settings: Doctor) -> Iterator[Finding]:
    """Read the free space of each disk, and try to write to the folder of temporary files."""
    folder = temporary_folder()
    with in_words(folder, TEMPORARY_FOLDER):
        try_folder(folder)
    yield _of("temporary files", folder, "TMPDIR=/FOLDER/ON/A/LARGER/DISK")
    output = None if settings.output is None else local_path(settings.output)
    if output is not None:
        yield _of("output", output, "Free some space, or give an --output on another disk.")
    if settings.data is not None and local_path(settings.data) is None:
        yield _of("cache of shards", cache_folder(), "HARDVIEWS_CACHE=/FOLDER/ON/A/LARGER/DISK")


def _of(what: str, path: str, remedy: str) -> Finding:
    left = room(path)
    if left is None:
        return ok(what, f"{path}; its disk does not report its free space")
    there = "" if os.path.exists(path) else f" (does not exist yet, below {nearest(path)})"
    text = f"{left / 1e9:.1f} GB free at {path}{there}"
    return ok(what, text) if left >= _LEAST else warning(what, f"{text}: not much for checkpoints", remedy)


PROBE = Probe("disks", MACHINE, look)
