"""The momentum of a moving average over a training."""

from math import cos, pi

import pytest

from hardviews.models.momentum import rising_momentum


def test_the_momentum_rises_on_a_cosine() -> None:
    assert rising_momentum(0.996, 0.0) == 0.996
    assert rising_momentum(0.996, 1.0) == 1.0
    assert rising_momentum(0.99, 0.5) == pytest.approx(0.995)
    values = [rising_momentum(0.9, step / 20) for step in range(21)]
    assert values == sorted(values)
    for step, value in enumerate(values):
        assert 1 - value == pytest.approx(0.1 * 0.5 * (1 + cos(pi * step / 20)))
