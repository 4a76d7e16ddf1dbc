"""Messages about parts of a recipe that have no effect on a run."""

import pytest

from hardviews.clock import Calendar
from hardviews.methods.joint import JointConfig, Part
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum, Weighted
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.train.idle import idle
from hardviews.train.recipe import Training
from tests.laws.cases import METHODS, SIMCLR, SUPERVISED, build

LATE = Sum((1.0, Clean()), Weighted(1.0, Adversarial(), begin=2), Weighted(1.0, CutMix(), begin=1))


@pytest.mark.parametrize("strategy", [LATE, Chain(HardViews(4), LATE)], ids=["sum", "chain"])
def test_parts_that_begin_after_the_run(strategy) -> None:
    objective = build("simsiam", strategy)
    assert idle(objective, Training(epochs=3, batch=8), Calendar(0, 8, 64, 3)) == []
    (late,) = idle(objective, Training(epochs=2, batch=8), Calendar(0, 8, 64, 2))
    assert late.startswith("Adversarial begins in epoch 2")
    assert len(idle(objective, Training(epochs=1, batch=8), Calendar(0, 8, 64, 1))) == 2


def test_parts_of_a_sum_of_methods_that_begin_after_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    late = JointConfig((Part(1.0, SIMCLR), Part(1.0, SUPERVISED, begin=2)))
    monkeypatch.setitem(METHODS, "late", late.build)
    objective = build("late", Clean())
    assert idle(objective, Training(epochs=3, batch=8), Calendar(0, 8, 64, 3)) == []
    (said,) = idle(objective, Training(epochs=2, batch=8), Calendar(0, 8, 64, 2))
    assert said.startswith("Supervised begins in epoch 2")


@pytest.mark.parametrize(
    ("epochs", "remedy"), [(1, "Leave --training.ema out."), (10, "Take 0.94 or less.")], ids=["8 steps", "80 steps"]
)
def test_an_average_that_is_longer_than_the_run(epochs: int, remedy: str) -> None:
    training = Training(epochs=epochs, batch=8, ema=0.999)
    (said,) = idle(build("simclr", Clean()), training, Calendar(0, 8, 64, epochs))
    assert said.endswith(remedy)


def test_modules_that_no_step_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    from hardviews.methods.swav import SwAVConfig

    monkeypatch.setitem(METHODS, "swav", SwAVConfig(hidden=16, output=8, prototypes=10, freeze=15, locals=0).build)
    objective = build("swav", Clean())
    assert idle(objective, Training(epochs=2, batch=8), Calendar(0, 8, 64, 2)) == []  # 16 steps
    (frozen,) = idle(objective, Training(epochs=1, batch=8), Calendar(0, 8, 64, 1))
    assert frozen.startswith("prototypes is frozen")
