"""The shards of a dataset as open files: local shards directly, remote ones through the cache."""

import concurrent.futures
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from hardviews.data.cache import CacheFull, ShardCache
from hardviews.data.index import Index, Shard
from hardviews.data.ranges import Ranges
from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.storage.disk import in_words
from hardviews.storage.failures import Denied
from hardviews.storage.patience import TRAINING
from hardviews.storage.store import Store, open_store
from hardviews.storage.url import cache_bound, cache_folder

logger = logging.getLogger(__name__)

_MUCH = 0.25  # a shard is fetched as a whole if at least this share of its bytes is needed
_CHECKS = 16  # sizes of shards requested at once
_AGAIN = 5.0  # seconds after which a shard that the cache had no room for is tried again


class OpenShards:
    """Descriptors of shards by number, opened when first needed; shards needed soon are fetched ahead.

    Shards without room in the cache are read range by range from the store. The number of shards that a process needs
    depends on the number of processes, and a job that loses one must not end because of the cache. If a store does not
    answer, reading waits for the time of a restart. An instance belongs to one process: descriptors, threads and
    connections do not survive a fork.
    """

    def __init__(self, index: Index, folder: str | None, limit: int, ahead: int) -> None:
        self._index, self._ahead = index, ahead
        self.store = open_store(index.url, TRAINING)
        self.ranges = Ranges(self.store)
        bound = cache_bound()
        limit = limit if bound is None else min(limit, bound)
        self.cache = None if self.store.local else ShardCache(folder or cache_folder(), limit)
        self._open: dict[int, int] = {}
        self._live: set[int] = set()
        self._kept: set[int] = set()  # live shards and shards needed soon
        self._fetching: dict[int, concurrent.futures.Future[int]] = {}
        self._leaving: list[concurrent.futures.Future[int]] = []
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._probed: set[int] = set()  # shards of which little is wanted
        self._outside: dict[int, float] = {}  # shards without room in the cache, and since when
        self._refetched: set[int] = set()
        self._warned = False

    def read(self, number: int, offset: int, head: int, size: int) -> tuple[bytes, bytes]:
        """Return `head` bytes at an offset of a shard, and the `size` bytes after them; fewer at the end of the shard.

        Raises:
            UserError: the shard is missing, cut or replaced, or cannot be reached.
        """
        if self._inside(number):
            try:
                return self._read_opened(number, offset, head, size)
            except OSError:
                # A handle may be stale after a file server was restarted, and a copy may lie on a bad block.
                self._forget(number)
            if self._inside(number):
                with in_words(self.store.name(self._index.shards[number].name)):
                    return self._read_opened(number, offset, head, size)
        found = self.ranges.read((self._index.shards[number].name, offset, head + size))
        return found[:head], found[head:]

    def _read_opened(self, number: int, offset: int, head: int, size: int) -> tuple[bytes, bytes]:
        descriptor = self._open[number]
        # Two calls are cheaper than one whose result is divided and copied.
        return os.pread(descriptor, head, offset), os.pread(descriptor, size, offset + head)

    def _forget(self, number: int) -> None:
        """Close a shard that could not be read, and drop its copy."""
        with contextlib.suppress(OSError):
            os.close(self._open.pop(number))
        if self.cache is not None:
            self.cache.discard(self._index.shards[number])

    def expect(self, wanted: Iterable[tuple[int, int, int]]) -> None:
        """Announce the next reads as ranges (shard, offset, size); ranges of shards elsewhere are requested now.

        A shard that is not among the kept ones is copied if much of it is needed, and else read by these ranges.
        """
        if self.cache is None:
            return
        wanted, shards = list(wanted), self._index.shards
        bytes_of: Counter[int] = Counter()
        for number, _, size in wanted:
            bytes_of[number] += size
        self._probed = {number for number, size in bytes_of.items() if size < _MUCH * shards[number].size}
        self.ranges.expect([(shards[n].name, offset, size) for n, offset, size in wanted if not self._inside(n)])

    def again(self, number: int) -> bool:
        """Return whether a second read of damaged bytes may succeed: not for a local shard.

        A cached copy that turned out damaged is fetched again, once.
        """
        if self.cache is None:
            return False
        if number not in self._open:
            self.cache.counts.spoiled += 1
            return True
        if number in self._refetched:
            return False
        self._refetched.add(number)
        os.close(self._open.pop(number))
        self.cache.discard(self._index.shards[number])
        return True

    def _inside(self, number: int) -> bool:
        """Return whether a shard lies on this machine; open it if necessary."""
        if number in self._open:
            return True
        if number in self._probed - self._kept and self.cache is not None:
            return False
        if time.monotonic() - self._outside.get(number, -_AGAIN) < _AGAIN:
            return False
        try:
            self.descriptor(number)
        except CacheFull as error:
            self._outside[number] = time.monotonic()
            if not self._warned:
                logger.warning("%s What does not fit is read one by one from %s.", error, self.store.url)
            self._warned = True
            return False
        self._outside.pop(number, None)
        return True

    def descriptor(self, number: int) -> int:
        """Return an open descriptor of a shard's bytes on this machine.

        Raises:
            UserError: the shard is missing, cut or replaced.
            CacheFull: the cache has no room for it.
        """
        if number not in self._open:
            future = self._fetching.pop(number, None)
            if future is not None and future.exception() is None:
                self._open[number] = future.result()
            else:
                self._open[number] = self._open_in_need(number)
        return self._open[number]

    def keep(self, live: Iterable[int], soon: Iterable[int] = ()) -> None:
        """Release all other shards; fetch or read ahead these, the live ones first.

        If the cache cannot hold all of them, the shards needed soon give way.
        """
        live, soon = list(live), list(soon)
        self._live, self._kept = set(live), {*live, *soon}
        self._release({*live, *soon})
        for number in [number for number in self._outside if number not in self._live]:
            del self._outside[number]
        for number in [*live, *soon]:
            if number in self._open or number in self._fetching or number in self._outside:
                continue
            if self._outside and number not in self._live:
                break  # without room for the live shards there is none for later ones
            if self.cache is None:
                # The kernel reads the shard ahead, since samples are then asked for in random order.
                with contextlib.suppress(OSError):  # reading would fail too, with a message
                    os.posix_fadvise(self.descriptor(number), 0, 0, os.POSIX_FADV_WILLNEED)
                continue
            if self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(max(1, self._ahead), "fetch")
            self._fetching[number] = self._pool.submit(self._open_shard, number)

    def close(self) -> None:
        """Release every shard, stop fetching, and wait for no store any more."""
        self.store.close()
        self.ranges.close()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._release(set())
        self._close_leaving(wait=True)

    def check(self) -> None:
        """Raise UserError if a shard is missing or its size differs from the index; no sample is read."""
        store = open_store(self._index.url)
        # One listing instead of one request a shard, if the store has listings.
        sizes = _listed(store)
        with concurrent.futures.ThreadPoolExecutor(_CHECKS, "check") as pool:
            found = pool.map(
                lambda shard: sizes[shard.name] if shard.name in sizes else store.size(shard.name), self._index.shards
            )
            for shard, size in zip(self._index.shards, found, strict=True):
                self._check_size(shard, size)

    def _open_in_need(self, number: int) -> int:
        try:
            return self._open_shard(number)
        except CacheFull:
            # Shards fetched ahead may fill the cache: release them, and wait for fetches that still run.
            self._release(self._live | {number})
            self._close_leaving(wait=True)
            return self._open_shard(number)

    def _release(self, wanted: set[int]) -> None:
        for number in [number for number in self._open if number not in wanted]:
            os.close(self._open.pop(number))
        for number in [number for number in self._fetching if number not in wanted]:
            future = self._fetching.pop(number)
            if not future.cancel():
                self._leaving.append(future)
        self._close_leaving(wait=False)

    def _close_leaving(self, wait: bool) -> None:
        """Close shards that were still being fetched when they were released."""
        staying = []
        for future in self._leaving:
            if not (wait or future.done()):
                staying.append(future)
            elif future.exception() is None:
                os.close(future.result())
        self._leaving = staying

    def _open_shard(self, number: int) -> int:
        shard = self._index.shards[number]
        name = self.store.name(shard.name)
        try:
            if self.cache is not None:
                return self.cache.open(self.store, shard)
            descriptor = os.open(name, os.O_RDONLY)
        except FileNotFoundError:
            raise self._wrong(shard, "is missing") from None
        except OSError as error:
            remedy = of_machine(error, name)
            raise UserError(f"The shard {name} cannot be read: {remedy.words if remedy else error}") from error
        try:
            self._check_size(shard, os.fstat(descriptor).st_size)
        except UserError:
            os.close(descriptor)
            raise
        return descriptor

    def _check_size(self, shard: Shard, size: int | None) -> None:
        if size is None:
            raise self._wrong(shard, "is missing")
        if size != shard.size:
            raise self._wrong(shard, f"holds {size} bytes, not the {shard.size} of its index: it was cut or replaced")

    def _wrong(self, shard: Shard, what: str) -> UserError:
        return UserError(
            f"The shard {self.store.name(shard.name)} {what}. Copy it again from a good copy, or pack "
            f"the dataset again with: hardviews pack --source IMAGES --out FOLDER --overwrite"
        )


def _listed(store: Store) -> Mapping[str, int]:
    """Return the sizes in a listing; empty without the right to list, which reading does not need."""
    try:
        return store.sizes()
    except Denied:
        return {}
