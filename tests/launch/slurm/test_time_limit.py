"""Time limits in all forms that sbatch takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.launch.slurm.time_limit import minutes


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_all_forms_mean_the_same(days, hours, mins, seconds):
    total = days * 1440 + hours * 60 + mins + seconds / 60
    expected = pytest.approx(total) if total else float("inf")
    assert minutes(f"{days}-{hours:02}:{mins:02}:{seconds:02}") == expected
    assert minutes(f"{days * 24 + hours}:{mins:02}:{seconds:02}") == expected


@pytest.mark.parametrize(
    ("text", "found"), [("90", 90), ("1:30", 1.5), ("2-12", 3600), ("1-0:30", 1470), ("soon", None)]
)
def test_short_forms(text, found):
    assert minutes(text) == found


@pytest.mark.parametrize("text", ["0", "UNLIMITED", "infinite"])
def test_no_limit(text):
    assert minutes(text) == float("inf")
