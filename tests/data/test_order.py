"""The order is a permutation, pure, seekable, and mixes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.data.order import Order, default_streams, default_window, permutation
from hardviews.errors import UserError

orders = st.builds(
    dict,
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(lambda counts: sum(counts) >= 12),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
    streams=st.integers(1, 12),
    window=st.one_of(st.none(), st.integers(1, 9)),
    block=st.integers(1, 40),
)


@settings(max_examples=200, deadline=None)
@given(orders)
def test_every_sample_stands_once_in_the_order_or_in_the_tail(arguments: dict) -> None:
    order = Order(**arguments)
    everything = np.concatenate([order.indices(0, order.length), order.tail])
    assert sorted(everything) == list(range(sum(arguments["counts"])))
    assert len(order.tail) == sum(arguments["counts"]) % arguments["streams"]


@settings(max_examples=200, deadline=None)
@given(orders, st.data())
def test_any_slice_is_that_slice_of_the_whole(arguments: dict, data: st.DataObject) -> None:
    whole = Order(**arguments).indices(0, Order(**arguments).length)
    order = Order(**arguments)  # one object asked repeatedly, in any sequence: it must remember nothing
    for _ in range(3):
        start = data.draw(st.integers(0, len(whole)))
        stop = data.draw(st.integers(start, len(whole)))
        np.testing.assert_array_equal(order.indices(start, stop), whole[start:stop])


@settings(max_examples=100, deadline=None)
@given(orders, st.data())
def test_shards_names_every_shard_that_is_read_and_few_others(arguments: dict, data: st.DataObject) -> None:
    order = Order(**arguments)
    start = data.draw(st.integers(0, order.length))
    stop = data.draw(st.integers(start, order.length))
    owner = np.repeat(np.arange(len(arguments["counts"])), arguments["counts"])
    live = order.shards(start, stop)
    assert set(owner[order.indices(start, stop)]) <= set(live)
    assert len(live) == len(set(live))
    if stop == start + 1:
        assert len(live) <= order.window


def test_a_small_dataset_is_shuffled_fully() -> None:
    # The place of each sample must be uniform over the epoch, whatever its shard.
    counts = [67] * 22
    n, epochs, bins = sum(counts), 60, 11
    window = default_window(counts)
    streams = default_streams(len(counts), window, groups=8)
    landed = np.zeros((bins, bins))
    for epoch in range(epochs):
        order = Order(counts, 0, epoch, streams, window, block=256)
        samples = order.indices(0, order.length)
        np.add.at(landed, (samples * bins // n, np.arange(len(samples)) * bins // n), 1)
    expected = epochs * n / bins**2
    chi_square = ((landed - expected) ** 2 / expected).sum()
    # (bins - 1)^2 = 100 degrees of freedom: mean 100, standard deviation 14.
    assert 50 < chi_square < 170


def test_epochs_seeds_streams_and_windows_have_their_own_permutations() -> None:
    arguments = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    found = {tuple(permutation(100, *a)) for a in arguments}
    assert len(found) == len(arguments)
    assert not np.array_equal(Order([50] * 4, 0, 0).indices(0, 200), Order([50] * 4, 0, 1).indices(0, 200))


def test_the_order_never_changes_between_versions() -> None:
    # A change of these numbers breaks the resumption of every run that was saved before it.
    assert permutation(12, seed=7, epoch=3, stream=2, window=1).tolist() == PERMUTATION
    assert Order([10] * 6, 7, 3, streams=2, window=2, block=4).indices(0, 16).tolist() == ORDER


PERMUTATION = [9, 3, 7, 4, 2, 6, 5, 1, 8, 0, 10, 11]
ORDER = [16, 54, 15, 50, 42, 22, 25, 48, 58, 11, 14, 10, 29, 45, 40, 43]


def test_a_rank_always_reads_the_same_streams() -> None:
    # There are 16 groups in a global batch and 8 streams. Over an epoch, rank 0 of 4 touches a quarter of the shards,
    # and the shards that streams share at their borders.
    counts, group, global_batch = [100] * 128, 32, 512
    streams = default_streams(len(counts), 8, global_batch // group)
    order = Order(counts, 0, 0, streams, 8, global_batch // streams)
    owner = np.repeat(np.arange(len(counts)), counts)
    touched = set()
    for start in range(0, order.length - global_batch + 1, global_batch):
        touched |= set(owner[order.indices(start, start + global_batch // 4)])
    assert streams == 8
    assert len(touched) <= 128 // 4 + 3


def test_a_window_holds_at_most_its_shards() -> None:
    order = Order([100] * 64, 0, 0, streams=4, window=4, block=32)
    assert max(len(order.shards(p, p + 1)) for p in range(0, order.length, 50)) == 4


def test_enumeration_is_fast_enough_to_forget() -> None:
    import time

    order = Order([2300] * 560, 0, 0, streams=32, window=8, block=64)
    order.indices(0, 2048)
    began = time.process_time()
    for start in range(2048, 2048 * 21, 2048):
        order.indices(start, start + 2048)
    assert (time.process_time() - began) / (20 * 2048) < 5e-6  # seconds a sample; decoding one takes 500e-6


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(UserError, match="fewer than the 9 streams"):
        Order([4, 4], 0, 0, streams=9)
    with pytest.raises(UserError, match="positive"):
        Order([4, 4], 0, 0, streams=0)
    with pytest.raises(IndexError):
        Order([4, 4], 0, 0).indices(3, 9)
