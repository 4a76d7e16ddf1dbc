"""The learning rate depends on samples seen and on nothing else."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from tests.optim.tiny import Tiny
from tests.train.runs import simclr

shares = st.floats(0, 0.99)


def at(progress: int, total: int = 1000, step: int = 0, epoch: int = 0) -> Clock:
    return Clock(0, epoch, step, progress, total)


def rate(schedule: Schedule, progress: int, total: int = 1000, step: int = 0, peak: float = 1.0) -> float:
    return schedule.rate(peak, at(progress, total, step), epochs=10)


@given(warmup=shares, final=st.floats(0, 1), progress=st.integers(0, 1000), step=st.integers(0, 10**6))
def test_the_rate_is_a_share_and_ignores_steps(warmup: float, final: float, progress: int, step: int) -> None:
    schedule = Schedule(warmup, final=final)
    share = rate(schedule, progress, step=step)
    assert 0 <= share <= 1
    assert share == rate(schedule, progress)
    # The same place of a run that is seven times as long.
    assert share == pytest.approx(rate(schedule, 7 * progress, 7000))
    assert rate(schedule, progress, peak=0.3) == pytest.approx(0.3 * share)


def test_warm_up_is_linear_then_half_a_cosine_falls_to_the_final_share() -> None:
    schedule = Schedule(warmup=0.1, final=0.2)
    assert [rate(schedule, p) for p in (0, 25, 50, 100)] == pytest.approx([0, 0.25, 0.5, 1])
    assert rate(schedule, 550) == pytest.approx(0.6)
    assert rate(schedule, 775) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(0.75 * math.pi)))
    assert rate(schedule, 1000) == pytest.approx(0.2)


@given(
    peak=st.floats(1e-3, 10),
    start=st.floats(0, 1),
    final=st.floats(0, 1),
    warmup=st.integers(1, 40),
    epochs=st.integers(50, 400),
)
def test_published_schedules_step_by_step(peak: float, start: float, final: float, warmup: int, epochs: int) -> None:
    """SwAV's and DINO's: a warm-up from a rate that is no share, half a cosine to another; wd from .04 to .4."""
    steps, batch = 7, 32
    schedule = Schedule(warmup / epochs, start * peak, final * peak, absolute=True, final_weight_decay=0.4)
    for step in (0, steps * warmup // 2, steps * warmup, steps * (warmup + 1), steps * epochs // 2, steps * epochs - 1):
        clock = Clock(0, step // steps, step, step * batch, steps * epochs * batch)
        if step < steps * warmup:
            expected = start * peak + (peak - start * peak) * step / (steps * warmup)
        else:
            angle = math.pi * (step - steps * warmup) / (steps * (epochs - warmup))
            expected = final * peak + 0.5 * (peak - final * peak) * (1 + math.cos(angle))
        assert schedule.rate(peak, clock, epochs) == pytest.approx(expected)
        decay = 0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi * step / (steps * epochs)))
        assert schedule.weight_decay(0.04, clock) == pytest.approx(decay)


@given(epochs=st.integers(1, 800), epoch=st.integers(0, 799), within=st.floats(0, 0.99), peak=st.floats(1e-3, 10))
def test_a_rate_by_epochs_stays_within_one(epochs: int, epoch: int, within: float, peak: float) -> None:
    """MoCo's and SimSiam's: peak * (1 + cos(pi * epoch / epochs)) / 2."""
    epoch = min(epoch, epochs - 1)
    clock = Clock(0, epoch, 0, int((epoch + within) * 1000), epochs * 1000)
    expected = peak * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
    assert Schedule(per="epoch").rate(peak, clock, epochs) == pytest.approx(expected)


def test_a_predictor_keeps_its_rate() -> None:
    method = Tiny()
    optimizer = Optimizer("momentum", learning_rate=0.05, reference_batch=256).build(method, 512)
    assert Schedule().apply(optimizer, 0.1, at(1000), epochs=10) == pytest.approx(0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert all(rates[id(p)] == 0.1 for p in method.predictor.parameters())
    assert all(rates[id(p)] == pytest.approx(0) for p in method.backbone.parameters())


@pytest.mark.parametrize(("progress", "expected"), [(0, 0.04), (500, 0.22), (1000, 0.4)])
def test_weight_decay_rises_where_weights_are_decayed(progress: int, expected: float) -> None:
    method = Tiny()
    optimizer = Optimizer("adamw", weight_decay=0.04, decay_biases=False).build(method, 256)
    Schedule(final_weight_decay=0.4).apply(optimizer, 0.1, at(progress), epochs=10)
    found = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for parameter in method.parameters():
        assert found[id(parameter)] == pytest.approx(expected if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"warmup": 1.0}, r"^schedule\.warmup is 1\.0; .* below 1 \(a share of the run"),
        ({"warmup": -0.1}, r"^schedule\.warmup is -0\.1;"),
        ({"final": 1.5}, r"^schedule\.final is 1\.5; .* from 0 to 1 \(a share of the peak"),
        ({"start": 1.5}, r"^schedule\.start is 1\.5;"),
        ({"final": -1.0, "absolute": True}, r"^schedule\.final is -1\.0; it must be 0 or more\.$"),
    ],
)
def test_shares_that_are_none_are_refused(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Schedule(**bad)


def test_a_negative_weight_decay_is_refused() -> None:
    with pytest.raises(UserError, match="0 or more"):
        Schedule(final_weight_decay=-0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": Schedule(0.1, start=0.3, absolute=True), "batch": 256}, "above the peak of 0.1"),
        ({"schedule": Schedule(final=0.2, absolute=True), "batch": 256}, "above the peak of 0.1"),
        ({"schedule": Schedule(final_weight_decay=0.4), "decay": 0.0}, "no weight is decayed"),
    ],
)
def test_schedules_that_do_not_fit_their_optimizer_are_refused(changes: dict[str, Any], words: str) -> None:
    changes = dict(changes)
    optimizer = Optimizer("momentum", learning_rate=0.1, weight_decay=changes.pop("decay", 1e-4))
    training = replace(simclr().training, batch=changes.pop("batch", 256))
    with pytest.raises(UserError, match=words):
        replace(simclr(), optimizer=optimizer, training=training, **changes)
