"""Shards of a remote dataset kept on local disk, within a bound, shared by the processes of a machine."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from hardviews.data.index import Shard, file_sha256
from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.storage.store import Store

_PART = ".part"
_LOCK = ".lock"
_TRIES = 3
# Number of looks for room, and seconds between them: a process that this one starts holds copies of its locks for a
# moment.
_LOOKS, _BETWEEN = 10, 0.02


class CacheFull(UserError):
    """The cache cannot take a shard: its bound is reached, or its disk is full or fails."""


@dataclass
class CacheCounts:
    """Counts of a cache: shards served from disk, fetched and evicted; fetches whose bytes were wrong."""

    hits: int = 0
    fetched: int = 0
    evicted: int = 0
    spoiled: int = 0


class ShardCache:
    """A folder of verified shards, at most `limit` bytes of them.

    A file is named by the SHA-256 of its content, and published under that name only after the content was hashed. So
    the bytes of one dataset are never served for another. `open` returns a descriptor that pins its shard by a shared
    lock: pinned shards are never evicted. Processes that want the same shard fetch it once. If the bound cannot hold
    the pinned shards, `open` raises UserError. The first time it does so after a fraction of a second, later at once
    while there is no room.
    """

    def __init__(self, folder: str, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._full = False  # at the last look: if the cache stays full, later looks are not repeated
        self.counts = CacheCounts()
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The shard cache cannot use the folder {folder!r}: {error.strerror}. Name another with "
                "HARDVIEWS_CACHE or the reader's cache_folder."
            ) from error

    def open(self, store: Store, shard: Shard) -> int:
        """Return a read-only descriptor of the shard's bytes, pinned until it is closed.

        Raises:
            CacheFull: the bound is too small, or the disk is full.
            UserError: the store's file is not the shard of the index.
            OSError: the shard cannot be fetched.
        """
        name = f"{shard.sha256}.tar"
        try:
            with self._locked(name + _LOCK):
                descriptor = self._pin(name, shard.size)
                if descriptor is not None:
                    self.counts.hits += 1
                    return descriptor
                return self._fetch(store, shard, name)
        except OSError as error:
            remedy = of_machine(error, self.folder)
            if remedy is None:
                raise
            raise CacheFull(
                f"The shard cache in {self.folder!r} cannot be used: {remedy.words} The reader's cache_bytes "
                "bounds it, and HARDVIEWS_CACHE names another folder."
            ) from error

    def discard(self, shard: Shard) -> None:
        """Forget a shard whose file on disk turned out to be damaged."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, f"{shard.sha256}.tar"))

    def _pin(self, name: str, size: int) -> int | None:
        path = os.path.join(self.folder, name)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # It may have been evicted between opening and locking, or damaged since it was verified.
        if os.fstat(descriptor).st_nlink == 0 or os.fstat(descriptor).st_size != size:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                if os.path.getsize(path) != size:
                    os.unlink(path)
            return None
        os.utime(path)  # the time of last use, which decides on eviction
        return descriptor

    def _fetch(self, store: Store, shard: Shard, name: str) -> int:
        """Reserve room, download, verify, publish; return the descriptor that pins the shard."""
        part = os.path.join(self.folder, name + _PART)
        descriptor = self._reserve(part, shard.size)
        try:
            for attempt in range(_TRIES):
                store.download(shard.name, part, shard.size)
                if file_sha256(part) == shard.sha256:
                    break
                self.counts.spoiled += 1
                if attempt == _TRIES - 1:
                    raise UserError(
                        f"The shard {store.name(shard.name)} does not hold the bytes that its index names "
                        f"(fetched {_TRIES} times). It was damaged or replaced: copy it again from a good "
                        "copy, or pack the dataset again."
                    )
            with self._locked("cache" + _LOCK):
                # Nobody counts files or evicts meanwhile: the shard is pinned from its first moment on.
                os.replace(part, os.path.join(self.folder, name))
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            self.counts.fetched += 1
            return descriptor
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            os.close(descriptor)
            raise

    def _reserve(self, part: str, size: int) -> int:
        """Evict least recently used shards until `size` more bytes fit; reserve the room with a file of that size."""
        looks, self._full = 1 if self._full else _LOOKS, True
        for _ in range(looks - 1):
            with contextlib.suppress(CacheFull):
                return self._reserve_now(part, size)
            time.sleep(_BETWEEN)
        return self._reserve_now(part, size)

    def _reserve_now(self, part: str, size: int) -> int:
        with self._locked("cache" + _LOCK):
            used, files = 0, []
            for entry in os.scandir(self.folder):
                if not entry.is_file() or entry.name.endswith(_LOCK):
                    continue
                # An unlocked part was left by a process that died while it was fetching.
                if entry.name.endswith(_PART) and _unlink_unused(entry.path):
                    continue
                try:
                    stat = entry.stat()
                except FileNotFoundError:  # a failed or damaged file is removed already
                    continue
                used += stat.st_size
                files.append((stat.st_mtime, stat.st_size, entry.path))
            for _, length, path in sorted(files):
                if used + size <= self.limit:
                    break
                if _unlink_unused(path):
                    self.counts.evicted += 1
                    used -= length
            if used + size > self.limit:
                raise CacheFull(
                    f"The shard cache in {self.folder!r} is bounded to {_size(self.limit)}, {_size(used)} of it are in "
                    f"use by open shards, and a shard of {_size(size)} is needed now. Raise the reader's cache_bytes, "
                    "or lower its window."
                )
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, size)
            self._full = False
            return descriptor

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold a lock file that all processes of this machine share."""
        descriptor = os.open(os.path.join(self.folder, name), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _size(count: int) -> str:
    """Bytes, for people."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if count >= unit), (1e3, "kB"))
    return f"{count / unit:.3g} {name}"


def _unlink_unused(path: str) -> bool:
    """Remove a file that nobody has locked; return whether it was removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return True
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
