"""The speed of a job, against the steps that were taken within the window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.elastic.pace import Pace


def test_without_a_step_nothing_is_known():
    pace = Pace()
    pace.note(None, 5)
    assert (pace.idle(9), pace.per_second(9)) == (None, None)


def test_the_step_at_which_a_job_continues_is_not_speed():
    pace = Pace()
    pace.note(100_000, 50)
    assert (pace.per_second(50), pace.per_second(60)) == (0, 0)
    pace.note(100_005, 60)
    assert pace.per_second(60) == pytest.approx(0.5)
    assert pace.idle(63) == 3


def test_speed_falls_to_nothing_within_a_window():
    pace = Pace(window=100)
    for second in range(1000):
        pace.note(2 * second, second)
    assert pace.per_second(999) == pytest.approx(2)
    assert pace.per_second(1049) == pytest.approx(1)
    assert pace.per_second(1099) == 0
    assert pace.idle(1099) == 100


@given(waits=st.lists(st.floats(0.1, 40), min_size=1, max_size=60), late=st.floats(0, 200))
def test_speed_is_the_number_of_steps_within_the_window(waits, late):
    window, now, seen = 60.0, 7.0, []
    pace = Pace(window)
    for step, wait in enumerate(waits):
        now += wait
        pace.note(step, now)
        pace.note(max(0, step - 1), now)  # steps that are run again are no progress
        seen.append(now)
    now += late
    started = max(now - window, seen[0])
    taken = sum(time > started for time in seen)
    expected = taken / (now - started) if now > started else 0
    assert pace.per_second(now) == pytest.approx(expected)
    assert pace.idle(now) == pytest.approx(late, abs=1e-9)
