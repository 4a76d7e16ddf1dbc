"""Hard terms in turn in the real loop: a run that goes on computes the term whose turn it is."""

from dataclasses import replace
from pathlib import Path

from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.strategy import Clean
from tests.train.runs import everything, rows, train, weights


def test_a_killed_run_goes_on_bit_for_bit(data: str, untracked: Path) -> None:
    attack = Adversarial(4 / 255, branch="main", gradient="clean", measure=2)
    turns = Sum((1, Clean()), (2, InTurn(attack, CutMix())), average=True)
    recipe = replace(everything(1, checkpoint_steps=3, accumulate=2), strategy=turns)
    whole = train(recipe, data, untracked / "whole")
    broken = train(recipe, data, untracked / "broken", (4,))
    assert rows(broken) == rows(whole)
    assert weights(broken) == weights(whole)
    assert any("attack/strength" in row for row in rows(whole))
