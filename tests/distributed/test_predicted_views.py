"""The state that strategies learn is the same on any number of processes, and of micro-batches."""

import pytest
import torch

from hardviews.strategies.predicted_views import PredictedViews
from tests.distributed.laws import Case, two_processes_equal_one
from tests.distributed.pair import Pair
from tests.laws.cases import build, make_batch, rows_of


@pytest.mark.parametrize("method", ["simclr", "toy_clusters", "dino"])
def test_two_processes_learn_what_one_does(pair: Pair, method: str) -> None:
    two_processes_equal_one(pair, Case(method, PredictedViews(4, warm_up=1), steps=3))


def test_micro_batches_add_up_to_the_batch() -> None:
    objective = build("toy_centre", PredictedViews(4))
    batch = make_batch(objective, 16)
    whole = objective(batch, 16).lesson
    halves = [objective(rows_of(batch, rows), 16).lesson for rows in (slice(0, 8), slice(8, 16))]
    assert whole is not None and halves[0] is not None
    # The features alone: BatchNorm makes losses of a half differ.
    torch.testing.assert_close(torch.stack(halves).sum(0)[:, :-1], whole[:, :-1])
