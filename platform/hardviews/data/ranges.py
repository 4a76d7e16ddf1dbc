"""Ranges of a store's files, requested one by one, a few at a time, ahead of their use."""

import concurrent.futures
from collections.abc import Iterable

from hardviews.storage.store import Store

_IN_FLIGHT = 8  # requests at once: a range is a sample, so most of the time is spent waiting for the server

Range = tuple[str, int, int]  # file, offset, size


class Ranges:
    """Ranges read from files that are not on this machine.

    An instance belongs to one process, like the store's connections. `count` is the number of ranges read so far.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.count = 0
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._asked: dict[Range, concurrent.futures.Future[bytes]] = {}

    def expect(self, wanted: Iterable[Range]) -> None:
        """Request these ranges now; earlier ones that were not read are forgotten."""
        self._forget()
        for each in wanted:
            if self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(_IN_FLIGHT, "range")
            if each not in self._asked:
                self._asked[each] = self._pool.submit(self._fetch, each)

    def read(self, wanted: Range) -> bytes:
        """Return the bytes of a range; raise the errors of `Store.read`."""
        self.count += 1
        asked = self._asked.pop(wanted, None)
        return self._fetch(wanted) if asked is None else asked.result()

    def close(self) -> None:
        """Stop requests; if nothing may be waited for, the store was closed before."""
        self._forget()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _forget(self) -> None:
        for future in self._asked.values():
            future.cancel()
        self._asked.clear()

    def _fetch(self, wanted: Range) -> bytes:
        file, offset, size = wanted
        return self.store.read(file, offset, offset + size)
