"""Classification of failures outside this program: of stores, disks and tracking servers."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Needs(Enum):
    """The thing that ends a failure."""

    TIME = "passes by itself"
    USER = "needs the user"
    SOFTWARE = "needs other software"


@dataclass(frozen=True)
class Remedy:
    """A failure in words.

    Attributes:
        needs: time, the user, or other software.
        words: what failed, where, and what to do, as sentences for the log.
    """

    needs: Needs
    words: str


# A full disk may be emptied and a file handle may be closed, but only by somebody: waiting alone does not help.
_DISK = {
    errno.ENOSPC: "the disk is full. Free some space, or choose a folder on another disk",
    errno.EDQUOT: "the disk quota is used up. Free some space, or have the quota raised",
    errno.EROFS: "the file system can only be read. Mount it for writing, or choose another folder",
    errno.EIO: "the disk reported an input/output error. Look at the kernel's log; choose another disk",
    errno.EACCES: "this process may not use it. Change its owner or its mode, or choose another place",
    errno.EPERM: "this process may not use it. Change its owner or its mode, or choose another place",
    errno.ENAMETOOLONG: "the path is too long. Choose a shorter one",
    errno.EFBIG: "the file is larger than the file system allows. Choose another disk",
    errno.EMFILE: "this process has too many open files. Raise the limit: ulimit -n 65536",
    errno.ENFILE: "this machine has too many open files. Raise the limit fs.file-max",
}


def links(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that caused it: clients wrap the one with the real reason."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        # botocore's errors hold the client's as an argument of their message.
        inner = getattr(link, "kwargs", {})
        held = inner.get("error") if isinstance(inner, dict) else None
        waiting += [link.__cause__, link.__context__, held if isinstance(held, BaseException) else None]


def of_machine(error: BaseException, place: str) -> Remedy | None:
    """Return the remedy for a failure of this machine's disks or Python packages, or None if it is neither.

    Args:
        error: any exception; the errors that caused it are looked at too.
        place: file or folder in use, for the message.
    """
    for link in links(error):
        if isinstance(link, ImportError):
            name = link.name or str(link)
            return Remedy(
                Needs.SOFTWARE, f"{place}: the Python package {name} is missing here. Install it: pip install {name}."
            )
        if isinstance(link, OSError) and link.errno in _DISK:
            return Remedy(Needs.USER, f"{link.filename or place}: {_DISK[link.errno]}.")
    return None
