"""Results in order, a bounded number ahead, and an end that leaves nothing running."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.ordered_map import ordered_map


@given(st.lists(st.integers(), max_size=30), st.integers(1, 3), st.integers(0, 5))
def test_results_come_in_order_and_items_are_taken_as_needed(items: list[int], workers: int, ahead: int) -> None:
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for item in items:
            taken += 1
            yield item

    results = []
    for result in ordered_map(lambda item: item + 1, source(), workers, ahead):
        results.append(result)
        assert taken <= len(results) + ahead
    assert results == [item + 1 for item in items]


def test_a_later_result_waits_for_an_earlier_one() -> None:
    second = threading.Event()

    def call(item: int) -> int:
        if item == 0:
            assert second.wait(60)
        else:
            second.set()
        return item

    assert list(ordered_map(call, range(2), workers=2, ahead=2)) == [0, 1]


def test_an_error_comes_in_its_turn_and_ends_the_threads() -> None:
    before = threading.active_count()
    results = ordered_map(lambda item: 1 // item, [1, 1, 0, 1, 1], workers=2, ahead=4)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before


def test_an_early_end_cancels_what_has_not_begun_and_awaits_what_runs() -> None:
    began, go, ended = threading.Event(), threading.Event(), []

    def call(item: int) -> int:
        if item == 1:
            began.set()
            assert go.wait(60)
        ended.append(item)
        return item

    results = ordered_map(call, range(10), workers=1, ahead=5)
    assert next(results) == 0
    assert began.wait(60)
    threading.Timer(0.05, go.set).start()
    results.close()  # type: ignore[attr-defined]
    assert ended == [0, 1]
