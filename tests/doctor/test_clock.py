"""This machine's clock against a date in an answer."""

from email.utils import formatdate

import pytest

from hardviews.doctor.clock import compare


@pytest.mark.parametrize(
    ("ahead", "state"), [(0, "ok"), (-10, "ok"), (31, "warning"), (-31, "warning"), (901, "missing"), (-901, "missing")]
)
def test_a_difference_has_a_state(ahead, state):
    found = compare(formatdate(1_700_000_000, usegmt=True), 1_700_000_000 + ahead)
    assert found.state == state
    if abs(ahead) > 2:
        assert f"{abs(ahead)} s {'ahead of' if ahead > 0 else 'behind'}" in found.text


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_an_answer_without_a_date(date):
    assert compare(date).state == "skipped"
