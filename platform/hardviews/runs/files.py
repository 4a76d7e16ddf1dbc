"""Files of a checkpoint: their sizes and checksums, and torch's own errors while it saves and loads them."""

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from torch.distributed.checkpoint import CheckpointException

from hardviews.runs.manifest import Damaged

_NAMES = {"size": "size", "crc32": "checksum"}
_CHUNK = 1 << 20


def failure_of(function: Callable[[], object]) -> BaseException | None:
    """Call a function of torch's, and return the error of the one process that saves or loads, if there was one.

    torch's own error is not an Exception, and its text is a traceback. If the inner error were raised where torch's is
    caught, it would lose its cause.
    """
    try:
        function()
    except CheckpointException as error:
        return next((failure[0] for failure in error.failures.values()), error)
    return None


def check_file(path: Path, expected: Mapping[str, int]) -> None:
    """Compare the size and checksum of a file with the values at its writing.

    Raises:
        Damaged: they differ, or the file cannot be read.
    """
    try:
        found = fingerprint(path)
    except OSError as error:
        raise Damaged(f"{path.name} is missing or cannot be read ({error.strerror})") from error
    for what, value in found.items():
        if expected.get(what) != value:
            raise Damaged(f"{path.name} has another {_NAMES[what]} than it was written with")


def fingerprint(file: Path) -> dict[str, int]:
    """Return size and checksum of a file."""
    checksum = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return {"size": file.stat().st_size, "crc32": checksum}
