"""A short folder for the Unix sockets of multiprocessing, if TMPDIR is too long for them.

Batch systems set TMPDIR to long paths. A socket's path has at most 107 bytes on Linux, and Python puts the sockets of
its fork servers and of its shared memory below TMPDIR.
"""

import os
import shutil
import tempfile
from multiprocessing import process, util

from hardviews.errors import UserError

LONGEST = 103
"""Longest path of a socket in bytes on every system (`sun_path`): Linux 107, macOS 103."""

_TAIL = len("/pymp-xxxxxxxx/listener-xxxxxxxx")  # added by Python to the folder for temporary files


def use_short_folder() -> None:
    """Give multiprocessing a folder whose sockets can be bound, here and in all processes started from here.

    Nothing is done if the path of the folder for temporary files is short enough. The folder is removed when this
    process ends.

    Raises:
        UserError: no folder with a short path can be written.
    """
    config = process.current_process()._config  # type: ignore[attr-defined]
    long = tempfile.gettempdir()
    if config.get("tempdir") is not None or len(os.fsencode(long)) + _TAIL <= LONGEST:
        return
    for place in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"):
        if not os.path.isabs(place) or len(os.fsencode(place)) + _TAIL > LONGEST:
            continue
        try:
            folder = tempfile.mkdtemp(prefix="pymp-", dir=place)
        except OSError:
            continue  # it does not exist, or this process may not write it
        # multiprocessing itself removes its own folder below TMPDIR in the same way.
        util.Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=-100)
        config["tempdir"] = folder
        return
    raise UserError(
        f"TMPDIR is {long}: this path is too long for the sockets of Python's processes ({LONGEST} bytes in all), and "
        "/tmp, /var/tmp and /dev/shm cannot be written. Set TMPDIR to a shorter path."
    )
