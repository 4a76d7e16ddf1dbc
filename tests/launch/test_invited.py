"""Processes that a job invites, against the groups of a batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.data.shares import check_sizes
from hardviews.errors import UserError
from hardviews.launch.invited import Invited

J = "-j {least}:{most}x{processes}"
few = st.integers(1, 12)


@given(least=few, more=st.integers(0, 8), processes=few, group=few, accumulate=st.integers(1, 4), groups=few)
def test_what_is_allowed_can_be_shared_and_what_is_advised_is_allowed(
    least, more, processes, group, accumulate, groups
):
    invited, batch = Invited(least, least + more, processes), group * accumulate * groups
    try:
        invited.check(batch, group, accumulate, "{least} {most} {processes} !")
    except UserError as error:
        with pytest.raises(UserError):
            check_sizes(batch, group, accumulate, invited.world)
        advice = str(error).partition("at most ")[2]
        better = Invited(*map(int, advice.partition(" !")[0].split()))
        larger = int(advice.partition("--training.batch of at least ")[2].partition(",")[0])
        assert better.least <= better.most
        check_sizes(batch, group, accumulate, better.world)
        check_sizes(larger, group, accumulate, invited.world)
    else:
        check_sizes(batch, group, accumulate, invited.world)


def test_the_third_trainer_is_refused_in_words():
    with pytest.raises(UserError) as error:
        Invited(1, 3, 1).check(64, 32, 1, J)
    for part in (
        "-j 1:3x1 invites up to 3 processes",
        "a batch of 64 has 2 groups of 32",
        "at most -j 1:2x1",
        "--training.batch of at least 96",
        "--training.group",
    ):
        assert part in str(error.value)
    with pytest.raises(UserError, match=r"1 group of 32 samples in each of its 2 micro-batches.*-j 1:1x1"):
        Invited(2, 2, 8).check(64, 32, 2, J)


def test_a_batch_that_no_number_of_processes_can_share_is_refused_as_in_the_training():
    with pytest.raises(UserError, match="multiple of 32"):
        Invited(1, 1, 1).check(16, 32, 1, J)
