"""MoCo over two processes: keys are shuffled across both, statistics are those of groups, one message a pass."""

from collections import Counter
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hardviews.models.batchnorm import grouped, normalising
from hardviews.models.groups import Groups
from tests.distributed.collectives import own_rows
from tests.distributed.laws import UNEQUAL, Case, take_steps, two_processes_equal_one
from tests.distributed.pair import Pair
from tests.laws.cases import STRATEGIES, build


@pytest.mark.parametrize("shares", [(1, 3), (2, 2)], ids=str)
def test_other_shares(pair: Pair, shares: tuple[int, int]) -> None:
    two_processes_equal_one(pair, Case("moco", STRATEGIES["everything"], shares=shares, steps=3))


def test_statistics_equal_those_of_one_process_in_the_queue_and_the_running_ones(pair: Pair) -> None:
    case = Case("moco", STRATEGIES["hard_views"], shares=UNEQUAL, steps=2)
    for alone, first, second in zip(take_steps(case), *pair.run(take_steps, case), strict=True):
        for name in (
            "method.momentum.backbone.bn2.running_var",
            "method.backbone.bn1.running_mean",
            "method.queue.keys",
        ):
            assert torch.equal(first.state[name], second.state[name]), f"{name} differs between ranks"
            torch.testing.assert_close(first.state[name], alone.state[name])


@pytest.mark.parametrize(
    "fault", ["keys shuffled by each rank alone", "running statistics of own groups", "MoCo's queue of local keys"]
)
def test_faults_break_the_law(pair: Pair, fault: str) -> None:
    with pytest.raises(AssertionError):
        two_processes_equal_one(pair, Case("moco", STRATEGIES["clean"]), fault, rtol=1e-3, atol=1e-5)


def passed(update: bool) -> tuple[Counter[str], list[Tensor]]:
    """Count the messages of a forward and a backward pass, and those at its end."""
    method: Any = build("moco", STRATEGIES["clean"]).method
    pixels = own_rows(torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(0)), (8, 4))
    sent: Counter[str] = Counter()
    where = "in the pass"

    def counting(name: str) -> Any:
        real = getattr(dist, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            sent[where] += 1
            return real(*args, **kwargs)

        return patch.object(dist, name, call)

    with (
        counting("all_reduce"),
        counting("all_gather"),
        normalising(method, "main", update),
        grouped(method, Groups(len(pixels), 4)),
    ):
        method.backbone(pixels).sin().sum().backward()
        where = "at its end"
    return sent, [buffer for name, buffer in method.backbone.named_buffers() if "running" in name]


@pytest.mark.parametrize("update", [True, False])
def test_groups_need_no_message_but_one_for_the_running_statistics(pair: Pair, update: bool) -> None:
    (first, ours), (second, theirs) = pair.run(passed, update)
    assert first == second == ({"at its end": 1} if update else {})
    assert all(torch.equal(*both) for both in zip(ours, theirs, strict=True))
    for got, wanted in zip(ours, passed(update)[1], strict=True):
        torch.testing.assert_close(got, wanted)
