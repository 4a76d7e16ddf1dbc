"""The learning rate depends on samples seen and on nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.batch import Clock
from hardviews.errors import UserError
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from tests.optim.tiny import Tiny

shares = st.floats(0, 0.99)


def at(progress: int, total: int = 1000, step: int = 0) -> Clock:
    return Clock(0, 0, step, progress, total)


@given(warmup=shares, final=st.floats(0, 1), progress=st.integers(0, 1000), step=st.integers(0, 10**6))
def test_the_factor_is_a_share_and_ignores_steps(warmup: float, final: float, progress: int, step: int) -> None:
    schedule = Schedule(warmup, final)
    factor = schedule.factor(at(progress, step=step))
    assert 0 <= factor <= 1
    assert factor == schedule.factor(at(progress))
    # The same place of a run that is seven times as long.
    assert factor == pytest.approx(schedule.factor(at(7 * progress, 7000)))


def test_warm_up_is_linear_then_half_a_cosine_falls_to_the_final_share() -> None:
    schedule = Schedule(warmup=0.1, final=0.2)
    assert [schedule.factor(at(p)) for p in (0, 25, 50, 100)] == pytest.approx([0, 0.25, 0.5, 1])
    assert schedule.factor(at(550)) == pytest.approx(0.6)
    assert schedule.factor(at(775)) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(0.75 * math.pi)))
    assert schedule.factor(at(1000)) == pytest.approx(0.2)


def test_a_predictor_keeps_its_rate() -> None:
    method = Tiny()
    optimizer = Optimizer("momentum", learning_rate=0.05, reference_batch=256).build(method, 512)
    rate = Schedule().apply(optimizer, 0.1, at(1000))
    assert rate == pytest.approx(0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert all(rates[id(p)] == 0.1 for p in method.predictor.parameters())
    assert all(rates[id(p)] == pytest.approx(0) for p in method.backbone.parameters())


@pytest.mark.parametrize("bad", [{"warmup": 1.0}, {"warmup": -0.1}, {"final": 1.5}])
def test_shares_that_are_none_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        Schedule(**bad)
