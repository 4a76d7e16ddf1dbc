"""Strategies in turn: which part a step computes, and that a round is on average their sum."""

from dataclasses import replace

import pytest
import torch

from hardviews.batch import Batch
from hardviews.errors import UserError
from hardviews.objective.objective import Objective
from hardviews.recipes import recipe_named
from hardviews.recipes.overrides import overridden
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.strategy import Clean
from tests.laws.cases import build, make_batch

ATTACK = Adversarial(4 / 255, branch="main")


def at(batch: Batch, step: int) -> Batch:
    return replace(batch, clock=replace(batch.clock, step=step))


def gradient(objective: Objective, batch: Batch) -> torch.Tensor:
    objective.zero_grad()
    objective(batch, len(batch)).total.backward()
    return torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None])


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("own", [ATTACK, replace(ATTACK, gradient="clean")], ids=["own", "clean"])
def test_a_round_is_on_average_the_sum(own: Adversarial, average: bool) -> None:
    parts = own, CutMix(), Clean()
    whole = build("moco", Sum((1, Clean()), *((0.5, part) for part in parts), average=average))
    turns = build("moco", Sum((1, Clean()), (1.5, InTurn(*parts)), average=average))
    batch = make_batch(whole)
    mean = torch.stack([gradient(turns, at(batch, step)) for step in range(3, 6)]).mean(0)
    torch.testing.assert_close(mean, gradient(whole, at(batch, 3)), rtol=1e-4, atol=1e-6)


def test_the_step_decides_and_the_clock_stays() -> None:
    objective = build("simsiam", Sum((1, Clean()), (2, InTurn(ATTACK, CutMix()))))
    for step in range(4):
        losses = objective(make_batch(objective, step=step), 8)
        assert [term.name for term, _ in losses.terms] == ["clean", ("adversarial", "cutmix")[step % 2]]
        assert {term.batch.clock.step for term, _ in losses.terms} == {step}


def test_a_part_counts_its_own_turns() -> None:
    objective = build("simsiam", InTurn(CutMix(), replace(ATTACK, measure=2)))
    measured = [s for s in range(8) if "attack/raised" in objective(make_batch(objective, step=s), 8).measures]
    assert measured == [3, 7]


def test_the_part_that_asks_for_most_candidates_decides() -> None:
    objective = build("simsiam", InTurn(HardViews(4), Clean()))
    assert len(objective.plan.candidates) == 4
    chosen = [objective(make_batch(objective, step=s), 8).selecting.selection is not None for s in range(2)]
    assert chosen == [True, False]


def test_orders_that_mean_nothing_and_rounds_of_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="compared by loss"):
        Chain(InTurn(ATTACK, CutMix()), HardViews(4))
    with pytest.raises(UserError, match="InTurn has no parts"):
        InTurn()


def test_the_command_line_sets_a_part() -> None:
    words = ["--strategy.parts.1.strategy.parts.0.epsilon", "0.01", "--data", "d", "--output", "o"]
    _, recipe = overridden(recipe_named("hexa_moco_r50_200_turns"), words)
    assert isinstance(recipe.strategy, Sum)
    turns = recipe.strategy.parts[1].strategy
    assert isinstance(turns, InTurn) and isinstance(turns.parts[0], Adversarial)
    assert turns.parts[0].epsilon == 0.01 and turns.parts[0].gradient == "clean"
