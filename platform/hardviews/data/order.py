"""The order of an epoch: a pure function from positions to samples, seekable and free of state.

Shards are permuted and laid end to end on a line. The line is cut at sample granularity into C streams of equal length;
a stream takes W shards at a time, a window, and permutes the samples inside the window fully. Positions take `block`
consecutive samples from stream 0, then from stream 1, and so on, in a circle. If a block is a whole number of groups,
and C blocks are a global batch, each rank always reads the same few streams. Then one node fetches a shard, and not all
of them. Nothing is buffered: to resume is to start at another position.
"""

import itertools
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hardviews.errors import UserError

Ints = npt.NDArray[np.int64]

WINDOW = 8  # shards: 1 GiB at the default shard size
WINDOW_SAMPLES = 2**13  # datasets up to this size are shuffled fully, whatever their number of shards
STREAMS = 32  # at most, by default: a machine that reads them all holds STREAMS * WINDOW shards

_SHARDS = 2**64 - 1  # in place of a stream's number: the permutation of the shards themselves


def permutation(n: int, seed: int, epoch: int, stream: int, window: int) -> Ints:
    """Return a permutation of range(n), a function of its arguments alone.

    It is made by sorting raw words of Philox 4x64-10 (Salmon et al. 2011). Unlike numpy's own `permutation`, they are
    the same in every numpy version.
    """
    mask = 2**64 - 1
    counter = np.array([0, epoch & mask, stream & mask, window & mask], dtype=np.uint64)
    words = np.random.Philox(key=np.array([seed & mask, 0], dtype=np.uint64), counter=counter).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64)


def default_window(counts: Sequence[int] | npt.NDArray[np.integer]) -> int:
    """Return the number of shards in a shuffle window: WINDOW, or more if shards are small."""
    total, shards = int(np.sum(counts)), max(1, len(counts))
    return max(WINDOW, -(-WINDOW_SAMPLES * shards // max(1, total)))


def default_streams(shards: int, window: int, groups: int) -> int:
    """Return the largest number of streams that divides the groups of a global batch and leaves each two windows."""
    most = min(STREAMS, max(1, shards // (2 * window)))
    return max(c for c in range(1, most + 1) if groups % c == 0)


class Order:
    """The order in which an epoch visits a dataset.

    `counts`: samples in each shard, in the order of the dataset's index. `streams`, `window` and `block` are explained
    at the top of the file. Equal arguments give equal orders on every machine. `length` positions are visited. The
    `tail` is left out: fewer than `streams` samples, different ones in each epoch.
    """

    def __init__(
        self,
        counts: Sequence[int] | npt.NDArray[np.integer],
        seed: int,
        epoch: int,
        streams: int = 1,
        window: int | None = None,
        block: int = 1,
    ) -> None:
        counts = np.asarray(counts, dtype=np.int64)
        self.seed, self.epoch, self.streams, self.block = seed, epoch, streams, block
        self.window = default_window(counts) if window is None else window
        if min(self.streams, self.window, self.block) < 1:
            raise UserError(f"An order needs positive streams, window and block, not {streams}, {window} and {block}.")
        self.total = int(counts.sum())
        if self.total < streams:
            raise UserError(
                f"The dataset has {self.total} samples, fewer than the {streams} streams asked for. "
                "Use fewer streams (1 shuffles a small dataset fully)."
            )
        # Line coordinates: shard `self._shard[k]` occupies [self._bound[k], self._bound[k + 1]).
        self._shard = permutation(len(counts), seed, epoch, _SHARDS, 0)
        self._bound = np.concatenate([[0], np.cumsum(counts[self._shard])]).astype(np.int64)
        self._first = (np.cumsum(counts) - counts)[self._shard]
        self.rows = self.total // streams
        self.length = self.rows * streams
        self._permutations: OrderedDict[tuple[int, int], Ints] = OrderedDict()

    @property
    def tail(self) -> Ints:
        """Return the indices of the samples that this epoch's order leaves out."""
        return self._samples(np.arange(self.length, self.total, dtype=np.int64))

    def indices(self, start: int, stop: int) -> Ints:
        """Return the sample indices at positions [start, stop), shape (stop - start,)."""
        if not 0 <= start <= stop <= self.length:
            raise IndexError(f"positions [{start}, {stop}) lie outside the epoch's {self.length}")
        stream, row = self._stream_and_row(np.arange(start, stop, dtype=np.int64))
        line = stream * self.rows + row
        out = np.empty_like(line)
        low, high, number = self._windows(stream, line)
        # A batch touches few windows, so a loop over windows is cheaper than work on each sample.
        _, first, inverse = np.unique(low, return_index=True, return_inverse=True)
        for which, at in enumerate(first):
            inside = inverse == which
            order = self._permutation(int(stream[at]), int(number[at]), int(high[at] - low[at]))
            out[inside] = low[at] + order[line[inside] - low[at]]
        return self._samples(out)

    def segments(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return positions [start, stop), divided at changes of the window that they draw from."""
        stream, row = self._stream_and_row(np.arange(start, stop, dtype=np.int64))
        low, _, _ = self._windows(stream, stream * self.rows + row)
        cuts = [start, *(int(at) + start + 1 for at in np.flatnonzero(np.diff(low))), stop]
        return list(itertools.pairwise(cuts))

    def shards(self, start: int, stop: int) -> list[int]:
        """Return the shards in the windows that positions [start, stop) draw from, soonest first."""
        start, stop = max(0, start), min(stop, self.length)
        if start >= stop:
            return []
        stream, row = self._stream_and_row(np.arange(start, stop, dtype=np.int64))
        low, high, _ = self._windows(stream, stream * self.rows + row)
        _, first = np.unique(low, return_index=True)
        found: dict[int, None] = {}
        for at in np.sort(first):
            k_first = int(np.searchsorted(self._bound, low[at], side="right")) - 1
            k_last = int(np.searchsorted(self._bound, high[at], side="left"))
            found.update((int(shard), None) for shard in self._shard[k_first:k_last])
        return list(found)

    def _stream_and_row(self, position: Ints) -> tuple[Ints, Ints]:
        """Return the stream of each position and its row, the place within the stream."""
        whole = self.rows // self.block * self.block * self.streams  # positions before the last, shorter round
        block = np.where(position < whole, self.block, max(1, self.rows % self.block))
        offset = np.where(position < whole, position, position - whole)
        turn, inside = offset // block, offset % block
        stream = turn % self.streams
        base = np.where(position < whole, 0, whole // self.streams)
        return stream, base + turn // self.streams * block + inside

    def _windows(self, stream: Ints, line: Ints) -> tuple[Ints, Ints, Ints]:
        """Return line range [low, high) and number of the window that holds each line coordinate of a stream."""
        begin = stream * self.rows
        first_shard = np.searchsorted(self._bound, begin, side="right") - 1
        shard = np.searchsorted(self._bound, line, side="right") - 1
        number = (shard - first_shard) // self.window
        last = len(self._bound) - 1
        low = self._bound[first_shard + number * self.window]
        high = self._bound[np.minimum(first_shard + (number + 1) * self.window, last)]
        return np.maximum(low, begin), np.minimum(high, begin + self.rows), number

    def _permutation(self, stream: int, window: int, n: int) -> Ints:
        """Return the permutation inside one window, kept until its stream goes to the next window."""
        key = (stream, window)
        if key not in self._permutations:
            self._permutations[key] = permutation(n, self.seed, self.epoch, stream, window)
            while len(self._permutations) > 2 * self.streams:
                self._permutations.popitem(last=False)
        self._permutations.move_to_end(key)
        return self._permutations[key]

    def _samples(self, line: Ints) -> Ints:
        """Return the sample indices at line coordinates."""
        k = np.searchsorted(self._bound, line, side="right") - 1
        return np.asarray(self._first[k] + line - self._bound[k], dtype=np.int64)
