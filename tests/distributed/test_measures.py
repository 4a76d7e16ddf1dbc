"""Metrics of hard views are sums over ranks: two processes report the same as one."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from hardviews.models.noise import without_noise
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Sum, Weighted
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.train.meter import Meter
from tests.distributed.laws import Case, share, two_processes_equal_one, whole_batch
from tests.distributed.pair import Pair
from tests.laws.cases import GROUP, build

SMALLER = HardViews(4, size=8, audit=1)
HEXA = Sum((1.0, Clean()), (0.5, Adversarial(8 / 255, measure=1)), (0.25, CutMix()))


def report(case: Case) -> dict[str, float]:
    """Return the report of a meter on some steps; on this rank's shares, if a group runs."""
    objective = build(case.method, case.strategy, case.network).to(case.dtype)
    meter = Meter(torch.device("cpu"))
    for number in range(case.steps):
        whole = whole_batch(objective, case, number)
        batch = share(whole, case.shares)
        with without_noise(objective):
            losses = objective(batch, sum(case.shares) * GROUP)
        meter.add_losses(losses, objective.pairs)
    return meter.report()


def own_numbers(base: float) -> tuple[dict[str, float], list[list[float]], int]:
    """Return the report of a meter beside numbers of this rank, those of all ranks, and the number of gathers."""
    meter = Meter(torch.device("cpu"))
    meter.add("a", torch.full((2,), base + dist.get_rank()))
    with patch.object(dist, "all_gather", wraps=dist.all_gather) as gathers:
        means = meter.report([base + dist.get_rank(), 0.5])
    return means, meter.by_rank, gathers.call_count


def test_numbers_of_every_rank_travel_with_the_sums(pair: Pair) -> None:
    """Figures of nodes reach rank 0 in the message that a report sends anyway."""
    pair.start(own_numbers, 7.0)
    assert pair.results() == [({"a": 7.5}, [[7.0, 0.5], [8.0, 0.5]], 1)] * 2


@pytest.mark.parametrize("network", ["batchnorm", "vit"])
def test_two_processes_report_what_one_does(pair: Pair, network: str) -> None:
    case = Case("simclr", HEXA, network)
    pair.start(report, case)
    assert not dist.is_initialized()
    alone = report(case)
    named = {"flipped/adversarial", "flipped/cutmix", "margin/clean", "margin/adversarial", "attack/raised"}
    assert named <= alone.keys()
    for told in pair.results():
        assert told == pytest.approx(alone, rel=1e-5, abs=1e-6)


def test_a_part_that_begins_late_leaves_its_branch_alone(pair: Pair) -> None:
    """DDP bears weights that no step before an epoch uses, and those that a ramp leaves out of the first step."""
    late = Weighted(0.5, Adversarial(4 / 255), begin=2)
    grown = Weighted(0.5, CutMix(), ramp=0.5)
    two_processes_equal_one(pair, Case("simsiam", Sum((1.0, Clean()), late, grown, average=True), steps=2))
    two_processes_equal_one(pair, Case("simsiam", Sum((1.0, Clean()), replace(late, begin=0, ramp=0.5)), steps=2))


def test_two_processes_audit_a_choice_as_one_does(pair: Pair) -> None:
    case = Case("simclr", SMALLER)
    pair.start(report, case)
    alone = report(case)
    assert {"selection/agreement", "selection/rank_correlation", "selection/recovered"} <= alone.keys()
    for two in pair.results():
        assert two == pytest.approx(alone, rel=1e-5, abs=1e-6)
