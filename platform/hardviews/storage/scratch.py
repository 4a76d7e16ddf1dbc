"""Folders for files on their way between this machine and a store, removed even after a process is killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hardviews.storage.disk import TEMPORARY_FOLDER, in_words, temporary_folder

_LOCK = ".lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder, removed afterwards; folders of killed processes are removed before.

    A live process holds a lock inside its folder; any end of the process releases the lock.

    Raises:
        DiskFailure: no folder can be made.
    """
    prefix = f"hardviews-{os.getuid()}-"
    top = temporary_folder()
    for left in Path(top).glob(f"{prefix}*"):
        _remove_if_abandoned(left)
    while True:
        with in_words(top, TEMPORARY_FOLDER):
            outer = Path(tempfile.mkdtemp(prefix=prefix, dir=top))
        try:
            with open(outer / _LOCK, "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Before it was locked, another process may have taken it for abandoned. That process held the lock
                # while it removed the folder, so an existing folder stays.
                if not (outer / _LOCK).exists():
                    continue
                folder = outer / "files"
                folder.mkdir()
                yield folder
                return
        finally:
            shutil.rmtree(outer, ignore_errors=True)


def _remove_if_abandoned(folder: Path) -> None:
    try:
        with open(folder / _LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # in use, or made this moment
