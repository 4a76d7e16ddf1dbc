"""Failures of this machine's disks as errors in words."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.storage.failures import DiskFailure

# The way to choose another folder for temporary files, for `in_words`.
TEMPORARY_FOLDER = "TMPDIR names another folder for temporary files."
_PROBE = 64 * 1024  # bytes to write: a full disk still makes empty files


@contextmanager
def in_words(place: str, instead: str = "") -> Iterator[None]:
    """Raise a failure of a disk in the block as a DiskFailure; other errors pass unchanged.

    Args:
        place: file or folder in use.
        instead: a sentence about the option or variable that names another place.

    Raises:
        DiskFailure: the disk is full, cannot be written, is over its quota, or fails.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:  # torch's CheckpointException is not an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        remedy = of_machine(error, place)
        if remedy is None:
            raise
        raise DiskFailure(f"{remedy.words}{' ' if instead else ''}{instead}") from error


def room(path: str) -> int | None:
    """Return the bytes that this process may still write on the disk of a path, None if unknown.

    The path need not exist yet.
    """
    try:
        found = os.statvfs(nearest(path))
    except OSError:
        return None
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return blocks * found.f_frsize if found.f_blocks else None


def nearest(path: str) -> str:
    """Return the path, or the nearest folder above it that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


# Folders that this process has made: only these may be removed once they are empty.
_made: set[str] = set()


def make_folder(path: str) -> None:
    """Make a folder and the missing folders above it; `remove_made` removes them again.

    Raises:
        OSError: it cannot be made.
    """
    missing = []
    above = path
    while above and not os.path.exists(above):
        missing.append(above)
        above = os.path.dirname(above)
    os.makedirs(path, exist_ok=True)
    _made.update(missing)


def remove_made(path: str) -> None:
    """Remove the folders from a path upwards that this process has made, as long as they are empty."""
    while path in _made:
        try:
            os.rmdir(path)
        except OSError:
            return
        _made.discard(path)
        path = os.path.dirname(path)


def try_folder(folder: str) -> None:
    """Write a small file into a folder and remove it.

    Permission bits are not enough: there are root, read-only mounts, full disks and quotas.

    Raises:
        OSError: it cannot be written.
    """
    with tempfile.TemporaryFile(dir=folder) as stream:
        stream.write(bytes(_PROBE))
        stream.flush()
        os.fsync(stream.fileno())


def temporary_folder() -> str:
    """Return the folder for temporary files.

    Raises:
        DiskFailure: none can be written.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise DiskFailure(
            f"No folder for temporary files can be written ({error.strerror}): the disks are full, or "
            "cannot be written. Free some space, or name another folder with TMPDIR."
        ) from error
