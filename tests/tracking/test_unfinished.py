"""The line of a training that has not seen all its samples, and how others close it."""

from hypothesis import given
from hypothesis import strategies as st

from hardviews.tracking.unfinished import closed, unfinished

COUNTS = st.integers(1, 10**9)


@given(COUNTS, COUNTS, COUNTS, st.sampled_from(["FAILED", "KILLED"]))
def test_it_never_says_less_than_is_known_nor_more_than_there_is(
    before: int, total: int, samples: int, status: str
) -> None:
    before = min(before, total)
    note = closed(unfinished(before, total), samples, status, "its life 1 was evicted at step 3")
    assert note == (
        f"{unfinished(min(total, max(before, samples)), total)} Closed as {status}: its life 1 was evicted at step 3. "
        "Its own command goes on with it."
    )


def test_a_second_closing_takes_the_place_of_the_first() -> None:
    once = closed(f"**Ok**: fine. {unfinished(0, 9)} Top-1: 3 %.", 3, "KILLED", "silent for 20 min")
    twice = closed(once, 6, "FAILED", "its life 2 was failed at step 2")
    assert twice == (
        "**Ok**: fine. **Unfinished**: 6 of 9 samples seen (67 %). Closed as FAILED: its life 2 was failed at step 2. "
        "Its own command goes on with it. Top-1: 3 %."
    )


def test_a_run_that_had_finished_says_so() -> None:
    note = closed(f"**Fine-tuned** from x.\n\n{unfinished(0, 9000)}", 4500, "FINISHED", "its life 1 was finished")
    assert note == "**Fine-tuned** from x.\n\n**Finished**: 9,000 samples seen."


def test_notes_without_the_line_stay_as_they_are() -> None:
    for note in ("", "**Finished**: 9 samples seen.", "by hand \n\n\n### Empty\n\n### Data\n\n" + unfinished(0, 9)):
        assert closed(note, 5, "KILLED", "silent for 20 min") == note
