"""Read and check samples of a packed dataset in the order of an epoch; the state is one integer, `consumed`."""

import itertools
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

import numpy as np

from hardviews.checked import at_least, one_of, require, within
from hardviews.data.counters import Counters, cost_of
from hardviews.data.index import Index
from hardviews.data.order import Order, default_streams, default_window
from hardviews.data.sample import CorruptSample, Sample, Share
from hardviews.data.shards import OpenShards
from hardviews.data.shares import GROUP, Portion, check_sizes, micro_batches, share
from hardviews.errors import UserError
from hardviews.storage.url import check_here
from hardviews.views.decode import DecodeError

T = TypeVar("T")

_HEADER = 512  # bytes of the tar header that precedes a sample
_NAME = 100  # the first bytes of the header, which hold the member's name
_READS = 3  # tries to read bytes, which may be damaged on their way


@dataclass(frozen=True)
class ReaderConfig:
    """Settings of reading a dataset.

    Attributes:
        on_corrupt: `raise`, or `substitute` the next valid sample of the same shard, cyclically.
        most_corrupt: share of the dataset (one sample at least) that may turn out bad before reading stops
            with an error.
        streams: canonical streams of the order, see `Order`; None chooses from the dataset.
        window: shards whose samples are shuffled together; None chooses from the dataset.
        cache_folder: where copies of a remote dataset's shards are kept.
        cache_bytes: bound of these copies; 0 keeps none and reads sample by sample.
        ahead: shards fetched before they are needed; 0 fetches none.
    """

    on_corrupt: Literal["raise", "substitute"] = "raise"
    most_corrupt: float = 1e-3
    streams: int | None = None
    window: int | None = None
    cache_folder: str | None = None
    cache_bytes: int = 64 * 10**9
    ahead: int = 3

    def __post_init__(self) -> None:
        require(
            self,
            "loader.reader",
            on_corrupt=one_of("raise", "substitute"),
            most_corrupt=within(0, 1).note("a share of the samples"),
            streams=at_least(1).or_none("to choose from the dataset"),
            window=at_least(1).or_none("to choose from the dataset"),
            cache_bytes=at_least(0).note("0 for none"),
            ahead=at_least(0).note("0 for none"),
        )
        check_here(**{"loader.reader.cache_folder": self.cache_folder})


def _itself(sample: Sample) -> Sample:
    return sample


class Reader:
    """Reads a packed dataset, given by its URL or index.

    It is cheap to build and to pickle. It opens nothing before the first read, and open files never pass to another
    process. The CRC-32 of every sample is checked. A missing shard, or one of another size, raises UserError.
    """

    def __init__(self, data: str | Index, config: ReaderConfig = ReaderConfig()) -> None:
        self.index = Index.load(data) if isinstance(data, str) else data
        self.config = config
        self._first = np.concatenate([[0], np.cumsum(self.index.counts)]).astype(np.int64)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._opened: OpenShards | None = None
        self._counters = Counters()
        self._order: tuple[tuple[Any, ...], Order] | None = None
        self.bad: dict[int, str] = {}

    @property
    def _shards(self) -> OpenShards:
        if self._pid != os.getpid():
            self._reset()  # after a fork: this process must not use the parent's descriptors, threads and connections
        if self._opened is None:
            config = self.config
            self._opened = OpenShards(self.index, config.cache_folder, config.cache_bytes, config.ahead)
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {"index": self.index, "config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["index"], state["config"])  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def counters(self) -> Counters:
        """Return the totals of this process since the reader was made."""
        shards = self._opened if self._pid == os.getpid() else None
        return self._counters + cost_of(shards) if shards is not None else self._counters + Counters()

    def check(self) -> None:
        """Raise UserError if a shard is missing or its size differs from the index; no sample is read."""
        self._shards.check()

    def close(self) -> None:
        """Close every shard and stop fetching ahead; the reader may be used again."""
        if self._opened is not None and self._pid == os.getpid():
            self._opened.close()
            self._counters += cost_of(self._opened)
            self._opened = None

    # Reading by index

    @overload
    def read(self, indices: Iterable[int], positions: Iterable[int] | None = None) -> list[Sample]: ...
    @overload
    def read(
        self, indices: Iterable[int], positions: Iterable[int] | None = None, *, fn: Callable[[Sample], T]
    ) -> list[T]: ...
    def read(
        self,
        indices: Iterable[int],
        positions: Iterable[int] | None = None,
        *,
        fn: Callable[[Sample], Any] = _itself,
    ) -> list[Any]:
        """Return the samples with these indices, in order, or `fn` of each; positions default to the indices.

        If the bytes are corrupt, or `fn` raises DecodeError, the configured policy applies: UserError, or `fn` of a
        substitute with the same position.
        """
        wanted = [int(index) for index in indices]
        at = wanted if positions is None else [int(position) for position in positions]
        self._shards.expect(self._range(index) for index in wanted)
        return [self._one(fn, index, position) for index, position in zip(wanted, at, strict=True)]

    def _one(self, fn: Callable[[Sample], T], index: int, position: int) -> T:
        for candidate in self._candidates(index):
            if candidate in self.bad:
                continue
            try:
                sample = self._fetch(candidate, position)
            except CorruptSample as error:
                self._note(candidate, error.key, error)
                continue
            try:
                result = fn(sample)
            except DecodeError as error:
                self._note(candidate, sample.key, error)
                continue
            self._counters.samples += 1
            self._counters.substituted += candidate != index
            return result
        shard = self.index.shards[int(self.index.samples["shard"][index])]
        raise UserError(
            f"Not one sample of the shard {shard.name} of {self.index.url!r} can be read, so none can stand "
            "in. Restore the shard, or pack the dataset again."
        )

    def _candidates(self, index: int) -> Iterator[int]:
        """Yield the sample itself, then the samples after it in its shard, cyclically."""
        shard = int(self.index.samples["shard"][index])
        first, count = int(self._first[shard]), int(self._first[shard + 1] - self._first[shard])
        return (first + (index - first + step) % count for step in range(count))

    def _fetch(self, index: int, position: int) -> Sample:
        """Return a sample with verified bytes."""
        began = time.perf_counter()
        row = self.index.samples[index]
        shard, offset, size, crc32 = int(row["shard"]), int(row["offset"]), int(row["size"]), int(row["crc32"])
        for attempt in range(_READS):
            head, data = self._shards.read(shard, offset - _HEADER, _HEADER, size)
            intact = zlib.crc32(data) == crc32
            if intact or attempt == _READS - 1 or not self._shards.again(shard):
                break
        self._counters.wait += time.perf_counter() - began
        self._counters.bytes += len(data)
        key = _key(head)
        if not intact:
            raise CorruptSample(f"the checksum of its {size} bytes is not the one in the index", key)
        return Sample(index, position, key, data, int(row["label"]))

    def _range(self, index: int) -> tuple[int, int, int]:
        """Return shard, offset and size of a sample together with the tar header before it, which holds its key."""
        row = self.index.samples[index]
        return int(row["shard"]), int(row["offset"]) - _HEADER, int(row["size"]) + _HEADER

    def _note(self, index: int, key: str, error: Exception) -> None:
        """Count a bad sample; raise UserError if there are too many, or if the policy is to raise."""
        shard = self.index.shards[int(self.index.samples["shard"][index])]
        self.bad[index] = f"sample {index} (key {key!r}, shard {shard.name}): {error}"
        self._counters.corrupt += 1
        advice = "Copy the shard again from a good copy, or pack the dataset again."
        if self.config.on_corrupt == "raise":
            raise UserError(
                f"A sample of {self.index.url!r} is corrupt: {self.bad[index]}. {advice} To train on "
                "nevertheless, set on_corrupt to 'substitute'."
            ) from error
        allowed = max(1, int(self.config.most_corrupt * len(self.index)))
        if len(self.bad) > allowed:
            listed = "; ".join(list(self.bad.values())[:5])
            raise UserError(
                f"{len(self.bad)} samples of {self.index.url!r} are corrupt, more than the {allowed} allowed "
                f"(most_corrupt = {self.config.most_corrupt:g} of {len(self.index)}): {listed}. {advice}"
            ) from error

    # Reading an epoch

    def order(self, seed: int, epoch: int, global_batch: int, group: int = GROUP) -> Order:
        """Return the order of an epoch: a function of dataset, arguments, and configured streams and window."""
        counts = self.index.counts
        window = default_window(counts) if self.config.window is None else self.config.window
        streams = self.config.streams or default_streams(len(counts), window, max(1, global_batch // group))
        key = (seed, epoch, streams, window, global_batch)
        if self._order is None or self._order[0] != key:
            self._order = (key, Order(counts, seed, epoch, streams, window, max(1, global_batch // streams)))
        return self._order[1]

    @overload
    def iterate(self, portion: Portion, *, worker: int = 0, workers: int = 1) -> Iterator[Share[Sample]]: ...
    @overload
    def iterate(
        self, portion: Portion, *, worker: int = 0, workers: int = 1, fn: Callable[[Sample], T]
    ) -> Iterator[Share[T]]: ...
    def iterate(
        self, portion: Portion, *, worker: int = 0, workers: int = 1, fn: Callable[[Sample], Any] = _itself
    ) -> Iterator[Share[Any]]:
        """Yield a portion's share of every micro-batch: samples, or `fn` of each (see `read`).

        Worker w of W takes every W-th micro-batch, counted from `consumed`. If the workers are read in turn, their
        shares are in order. The samples of a micro-batch depend on neither ranks nor workers. Positions at the end of
        the epoch that do not fill a global batch are left out.

        Raises:
            UserError: the sizes cannot be shared out, or the dataset is smaller than a global batch.
        """
        global_batch, group, accumulate = portion.global_batch, portion.group, portion.accumulate
        check_sizes(global_batch, group, accumulate, portion.world)
        order = self.order(portion.seed, portion.epoch, global_batch, group)
        if order.length < global_batch:
            raise UserError(
                f"The dataset has {order.length} samples, fewer than one global batch of {global_batch}. "
                f"Lower global_batch to at most {max(group, order.length // group * group)}, or pack more "
                "images."
            )
        stops = range(portion.consumed + global_batch, order.length + 1, global_batch)
        batches = (m for stop in stops for m in micro_batches(stop - global_batch, global_batch, accumulate))
        # Far enough ahead that `ahead` shards of each stream lie between fetching and using.
        per_shard = -(-order.total // len(self.index.shards))
        ahead = self.config.ahead * per_shard * order.streams
        before = self.counters
        for number, (start, size) in enumerate(batches):
            if number % workers != worker:
                continue
            first, last = share(start, size, group, portion.rank, portion.world)
            live = order.shards(first, last)
            soon = [*live, *order.shards(first + ahead, last + ahead)]
            samples: list[Any] = []
            for low, high in order.segments(first, last):
                self._shards.keep(order.shards(low, high), soon)
                samples += self.read(order.indices(low, high), range(low, high), fn=fn)
            now = self.counters
            yield Share(start, start + size, first, last, samples, now - before)
            before = now

    def iterate_all(self, rank: int = 0, world: int = 1, worker: int = 0, workers: int = 1) -> Iterator[Sample]:
        """Yield every sample once, in the order of the index; ranks, then their workers, take consecutive ranges."""
        part, parts = rank * workers + worker, world * workers
        n = len(self.index)
        return self.iterate_ranges([range(part * n // parts, (part + 1) * n // parts)])

    def read_keys(self) -> Iterator[str]:
        """Yield the key of every sample, in the order of the index, without reading images."""
        held = -1
        for row in self.index.samples:
            shard = int(row["shard"])
            if shard != held:
                held = shard
                self._shards.keep([shard], range(shard + 1, min(shard + 2, len(self.index.shards))))
            yield _key(self._shards.read(shard, int(row["offset"]) - _HEADER, _HEADER, 0)[0])

    def iterate_ranges(self, ranges: Iterable[range]) -> Iterator[Sample]:
        """Yield the samples of some ranges of the index, in order; while one shard is read, the next is fetched."""
        held = -1
        for index in (index for some in ranges for index in some):
            shard = int(self.index.samples["shard"][index])
            if shard != held:
                held = shard
                self._shards.keep([shard], range(shard + 1, min(shard + 2, len(self.index.shards))))
            yield self._one(_itself, index, index)

    def iterate_lists(self, lists: Iterable[Sequence[int]]) -> Iterator[Sample]:
        """Yield the samples of some lists of indices, in order; shards of the next list are fetched meanwhile."""
        number_of = self.index.samples["shard"]
        waiting: Sequence[int] | None = None
        for following in itertools.chain(lists, [None]):
            if waiting is not None:
                live = dict.fromkeys(number_of[list(waiting)].tolist())
                soon = {} if following is None else dict.fromkeys(number_of[list(following)].tolist())
                self._shards.keep(live, soon)
                yield from (self._one(_itself, int(index), int(index)) for index in waiting)
            waiting = following


def _key(header: bytes) -> str:
    """Return the key in the tar header before a sample."""
    return header[:_NAME].split(b"\0", 1)[0].split(b".", 1)[0].decode("utf-8", "replace")
