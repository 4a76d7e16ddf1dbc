"""The shards of a dataset as open files of this machine: local ones directly, remote ones through the
cache.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Iterable

from hardviews.data.cache import CacheFull, ShardCache
from hardviews.data.index import Index, Shard
from hardviews.errors import UserError
from hardviews.storage.store import Store, cache_folder


class OpenShards:
    """Descriptors of shards by number, opened when first needed; those needed soon are fetched in the
    background.

    Belongs to one process: descriptors, threads and connections do not survive a fork.
    """

    def __init__(self, index: Index, folder: str | None, limit: int, ahead: int) -> None:
        self._index, self._ahead = index, ahead
        self.store = Store(index.url)
        self.cache = None if self.store.local else ShardCache(folder or cache_folder(), limit)
        self._open: dict[int, int] = {}
        self._live: set[int] = set()
        self._fetching: dict[int, concurrent.futures.Future[int]] = {}
        self._leaving: list[concurrent.futures.Future[int]] = []
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None

    def descriptor(self, number: int) -> int:
        """An open descriptor of a shard's bytes on this machine.

        Raises UserError where the shard is missing, cut or replaced, or the cache is too small.
        """
        if number not in self._open:
            future = self._fetching.pop(number, None)
            if future is not None and future.exception() is None:
                self._open[number] = future.result()
            else:
                self._open[number] = self._open_in_need(number)
        return self._open[number]

    def refetch(self, number: int) -> bool:
        """Replace the cached copy of a remote shard that turned out damaged; False for a local one."""
        if self.cache is None:
            return False
        os.close(self._open.pop(number))
        self.cache.discard(self._index.shards[number])
        return True

    def keep(self, live: Iterable[int], soon: Iterable[int] = ()) -> None:
        """Let go of all other shards; fetch or read ahead these, the live ones first.

        Where the cache cannot hold them all, those needed soon give way.
        """
        live, soon = list(live), list(soon)
        self._live = set(live)
        self._release({*live, *soon})
        for number in [*live, *soon]:
            if number in self._open or number in self._fetching:
                continue
            if self.cache is None:
                # The kernel reads the shard ahead, since samples are then asked for in random order.
                os.posix_fadvise(self.descriptor(number), 0, 0, os.POSIX_FADV_WILLNEED)
                continue
            if self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(max(1, self._ahead), "fetch")
            self._fetching[number] = self._pool.submit(self._open_shard, number)

    def require(self, shards: Iterable[int]) -> None:
        """Raise UserError where the cache could not hold these shards at once."""
        needed = sum(self._index.shards[number].size for number in shards)
        if self.cache is not None and needed > self.cache.limit:
            raise CacheFull(
                f"The shard cache in {self.cache.folder!r} is bounded to {self.cache.limit / 1e9:.2f} GB, "
                f"and the shuffle windows of this process take {needed / 1e9:.2f} GB. Raise the reader's "
                "cache_bytes, or lower its window or streams."
            )

    def close(self) -> None:
        """Let go of every shard and stop fetching."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        self._release(set())
        self._close_leaving(wait=True)

    def check(self) -> None:
        """Raise UserError where a shard is missing or of another size than the index says; reads no
        sample.
        """
        for shard in self._index.shards:
            self._check_size(shard, self.store.size(shard.name))

    def _open_in_need(self, number: int) -> int:
        try:
            return self._open_shard(number)
        except CacheFull:
            # What was fetched ahead may be what fills the cache: let go of it, and wait for what still
            # arrives.
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
        """Close what was being fetched when it was let go of."""
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
            raise UserError(f"The shard {name} cannot be read: {error}") from error
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
            f"The shard {self.store.name(shard.name)} {what}. Copy it again from where it is whole, or pack "
            f"the dataset again with: hardviews pack --source IMAGES --out FOLDER --overwrite"
        )
