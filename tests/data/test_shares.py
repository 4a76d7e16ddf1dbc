"""Shares are whole groups, cover the batch, and impossible sizes are refused with possible ones."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.data.shares import check_sizes, micro_batches, share
from hardviews.errors import UserError


@given(st.integers(0, 10**9), st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_shares_cover_the_batch_in_whole_groups(start: int, groups: int, group: int, world: int) -> None:
    world = min(world, groups)
    shares = [share(start, groups * group, group, rank, world) for rank in range(world)]
    assert shares[0][0] == start
    assert shares[-1][1] == start + groups * group
    assert all(a[1] == b[0] for a, b in itertools.pairwise(shares))
    sizes = [last - first for first, last in shares]
    assert all(size % group == 0 and size > 0 for size in sizes)
    assert max(sizes) - min(sizes) in (0, group)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 7))
def test_micro_batches_cover_the_batch(groups: int, group: int, accumulate: int) -> None:
    batches = micro_batches(11, groups * group * accumulate, accumulate)
    assert [p for start, size in batches for p in range(start, start + size)] == list(
        range(11, 11 + groups * group * accumulate)
    )


@given(st.integers(1, 500), st.integers(1, 33), st.integers(1, 4), st.integers(1, 40))
def test_what_is_refused_names_sizes_that_are_possible(
    global_batch: int, group: int, accumulate: int, world: int
) -> None:
    try:
        check_sizes(global_batch, group, accumulate, world)
    except UserError as error:
        text = str(error)
        if "Set training.accumulate" in text:
            fewer, size = re.search(r"Set training.accumulate to (\d+)(?: and training.batch to (\d+))?", text).groups()
            assert int(fewer) < accumulate
            check_sizes(int(size or global_batch), group, int(fewer), 1)
        elif "nearest" in text:
            sizes = [int(size) for size in re.findall(r"\d+", text.split("nearest possible size")[1])]
            for size in sizes:
                check_sizes(size, group, accumulate, 1)
            assert min(abs(size - global_batch) for size in sizes) < group * accumulate
        else:
            most, least = re.search(r"at most (\d+) processes, a training.batch of at least (\d+)", text).groups()
            check_sizes(global_batch, group, accumulate, int(most))
            check_sizes(int(least), group, accumulate, world)
    else:
        assert global_batch % (group * accumulate) == 0
        assert world * group * accumulate <= global_batch


def test_sizes_must_be_positive() -> None:
    with pytest.raises(UserError, match="positive"):
        check_sizes(0, 32, 1, 1)
