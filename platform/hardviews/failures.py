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
        words: sentences for the log about the failure, its place, and the remedy.
    """

    needs: Needs
    words: str


# Somebody must free a full disk or close a file handle: waiting alone does not help.
_DISK = {
    errno.ENOSPC: "the disk is full. Free some space, or choose a folder on another disk",
    errno.EDQUOT: "the disk quota is used up. Free some space, or have the quota raised",
    errno.ESTALE: "the file server has forgotten this file (a stale NFS handle). Mount the file system anew",
    errno.ENOTCONN: "the file system is not connected any more. Mount it anew",
    errno.EREMOTEIO: "the file server reported an input/output error. Look at its log",
    errno.ENOLCK: "the file system has no locks. Choose a folder on a disk of this machine",
    errno.ENXIO: "the disk is gone. Look at the kernel's log; choose another disk",
    errno.ENODEV: "the disk is gone. Look at the kernel's log; choose another disk",
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
        # botocore's errors hold the client's error as an argument of their message.
        inner = getattr(link, "kwargs", {})
        held = inner.get("error") if isinstance(inner, dict) else None
        waiting += [link.__cause__, link.__context__, held if isinstance(held, BaseException) else None]
        # torch's error of a checkpoint holds the error of each process, with its traceback.
        failures = getattr(link, "failures", {})
        waiting += [each[0] for each in failures.values()] if isinstance(failures, dict) else []


def of_machine(error: BaseException, place: str) -> Remedy | None:
    """Return the remedy for a failure of this machine's disks or Python packages, or None if it is neither.

    Args:
        error: any exception; the errors that caused it are checked too.
        place: file or folder in use, for the message.
    """
    found = list(links(error))
    # Clients of S3 translate a server's answers into errors with the error numbers of disks.
    answered = any(isinstance(getattr(link, "response", None), dict) for link in found)
    for link in found:
        if isinstance(link, ImportError):
            name = link.name or str(link)
            return Remedy(
                Needs.SOFTWARE, f"{place}: the Python package {name} is missing here. Install it: pip install {name}."
            )
        if isinstance(link, OSError) and link.errno in _DISK and not answered:
            return Remedy(Needs.USER, f"{link.filename or place}: {_DISK[link.errno]}.")
    return None


def kind_of(error: BaseException) -> str:
    """Return a text that is equal for failures of one cause: types, error numbers and codes of servers."""
    found = list(links(error))
    parts = [type(link).__name__ for link in found]
    parts += [str(link.errno) for link in found if isinstance(link, OSError) and link.errno]
    responses = [response for link in found if isinstance(response := getattr(link, "response", None), dict)]
    parts += [str(response.get("Error", {}).get("Code")) for response in responses]
    return " ".join(dict.fromkeys(parts))
