"""Byte access to a folder of files by URL: local paths directly, everything else through fsspec."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec

from hardviews.errors import UserError

T = TypeVar("T")

TRIES = 5
FIRST_PAUSE = 0.2  # seconds; doubles with every try, and the pause is drawn uniformly below it ("full jitter")
LONGEST_PAUSE = 20.0
PART = 8 * 2**20  # bytes per ranged request of a whole-file fetch; several are in flight at once

# Without these a stalled connection is noticed only after the client's default of a minute.
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 20, "retries": {"mode": "standard"}}},
}


def protocol_of(url: str) -> str:
    """The fsspec protocol of a URL; "file" for a plain path."""
    return url.split("://", 1)[0] if "://" in url else "file"


def local_path(url: str) -> str | None:
    """The path that a URL names on this machine, or None where it names another place."""
    if protocol_of(url) in ("file", "local"):
        return os.path.abspath(os.path.expanduser(url.split("://", 1)[-1]))
    return None


def cache_folder() -> str:
    """Where copies of remote files are kept when the user says nothing: HARDVIEWS_CACHE, else the user's
    cache.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("HARDVIEWS_CACHE") or os.path.join(home, "hardviews", "shards")


class Unreachable(UserError, OSError):
    """A store did not give, or take, a file."""


class Store:
    """One folder, local or remote, whose files are read by range and written whole.

    The fsspec instance is made on first use in each process and is never carried across a fork or a pickle:
    connections and event loops do not survive either. Remote calls are tried `TRIES` times with jittered,
    exponentially growing pauses; a missing file is not retried. `retries` and `requests` count since
    creation.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or url
        self.path = local_path(url)
        self.requests = 0
        self.retries = 0
        self._fs: Any = None
        self._pid = -1
        # Not the global generator: fetching must not move the random numbers of training.
        self._jitter = random.Random()

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["url"])  # type: ignore[misc]

    @property
    def local(self) -> bool:
        """Whether the folder lies on this machine and is read without fsspec."""
        return self.path is not None

    def name(self, file: str) -> str:
        """The full address of a file, for messages and for fsspec."""
        return os.path.join(self.path, file) if self.path is not None else f"{self.url}/{file}"

    def fs(self) -> Any:
        """This process's fsspec file system."""
        if self._fs is None or self._pid != os.getpid():
            protocol = protocol_of(self.url)
            try:
                self._fs = fsspec.filesystem(protocol, **_OPTIONS.get(protocol, {}))
            except (ValueError, ImportError) as error:
                raise UserError(
                    f"No way to open {self.url!r} is known here ({error}). Give a local path, "
                    "s3://bucket/folder, or a protocol whose fsspec package is installed."
                ) from error
            self._pid = os.getpid()
        return self._fs

    def size(self, file: str) -> int | None:
        """Bytes in a file, or None where it does not exist."""
        try:
            if self.path is not None:
                return os.stat(self.name(file)).st_size
            return int(self._retry(lambda: self.fs().size(self.name(file)), file))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, file: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop) of a file; raises FileNotFoundError, or Unreachable."""
        if self.path is not None:
            self.requests += 1
            with open(self.name(file), "rb") as stream:
                stream.seek(start)
                return stream.read() if stop is None else stream.read(stop - start)

        def fetch() -> bytes:
            data = bytes(self.fs().cat_file(self.name(file), start=start or None, end=stop))
            if stop is not None and len(data) != stop - start:
                raise OSError(f"{self.name(file)}: got {len(data)} bytes of {stop - start}")
            return data

        return self._retry(fetch, file)

    def download(self, file: str, target: str, size: int) -> None:
        """Copy a remote file of a known size to a local path in concurrent ranged requests."""
        starts = list(range(0, size, PART))
        stops = [min(start + PART, size) for start in starts]
        name = self.name(file)
        with open(target, "r+b" if os.path.exists(target) else "wb") as out:
            # A few parts at a time: memory stays bounded whatever the file's size.
            for first in range(0, len(starts), 8):
                part_starts, part_stops = starts[first : first + 8], stops[first : first + 8]

                def fetch(a: list[int] = part_starts, b: list[int] = part_stops) -> list[bytes]:
                    parts = [bytes(part) for part in self.fs().cat_ranges([name] * len(a), a, b, on_error="raise")]
                    if [len(part) for part in parts] != [y - x for x, y in zip(a, b, strict=True)]:
                        raise OSError(f"{name}: a ranged request returned too few bytes")
                    return parts

                for part in self._retry(fetch, file):
                    out.write(part)

    def put(self, source: str, file: str) -> None:
        """Publish a local file under a name of the folder: complete or not at all. A local source is
        moved.
        """
        if self.path is None:
            self._retry(lambda: self.fs().put_file(source, self.name(file)), file)
            os.unlink(source)
            return
        os.makedirs(self.path, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{file}.", dir=self.path)
        os.close(handle)
        try:
            shutil.move(source, temporary)  # a rename on the same file system, else a copy
            os.chmod(temporary, 0o644)
            os.replace(temporary, self.name(file))
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise

    def remove(self, file: str) -> None:
        """Delete a file; one that is not there is no error."""
        try:
            if self.path is not None:
                os.unlink(self.name(file))
            else:
                self._retry(lambda: self.fs().rm_file(self.name(file)), file)
        except FileNotFoundError:
            pass

    def files(self) -> list[str]:
        """Names of the files directly in the folder, sorted; empty where the folder does not exist."""
        try:
            if self.path is not None:
                return sorted(entry.name for entry in os.scandir(self.path) if entry.is_file())
            found = self._retry(lambda: self.fs().ls(self.url, detail=False), "")
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)

    def _retry(self, call: Callable[[], T], file: str) -> T:
        """Call, again after a pause where the failure may pass; the last failure is raised."""
        for attempt in range(TRIES):
            try:
                self.requests += 1
                return call()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise
            except PermissionError as error:
                raise Unreachable(
                    f"Access to {self.name(file)} was denied ({error}). Check the credentials that this process has."
                ) from error
            # Every client has exceptions of its own for a broken connection, few of them an OSError.
            except Exception as error:
                if attempt == TRIES - 1:
                    reason = str(error) or type(error).__name__
                    raise Unreachable(f"{self.name(file)}: {TRIES} tries failed, the last with: {reason}") from error
                self.retries += 1
                time.sleep(self._jitter.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)))
        raise AssertionError("unreachable")
