"""Calibration by brute force, sample by sample and bin by bin."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.evaluation.calibration import expected_calibration_error, negative_log_likelihood

BOUNDS = st.integers(0, 15).map(lambda number: number / 15)
predicted = st.lists(st.tuples(st.one_of(st.floats(0, 1), BOUNDS), st.booleans()), min_size=1, max_size=80)


def brute_force(samples: list[tuple[float, bool]], bins: int = 15) -> float:
    """Return the error of Guo et al., equation 3: sum over bins of |B| / n * |accuracy - confidence|."""
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [(sure, right) for sure, right in samples if low < sure <= high or (number == 0 and sure == 0)]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            confidence = sum(sure for sure, _ in inside) / len(inside)
            total += len(inside) / len(samples) * abs(accuracy - confidence)
    return 100 * total


@settings(max_examples=200, deadline=None)
@given(predicted)
def test_the_error_is_that_of_brute_force(samples) -> None:
    sure, right = (torch.tensor(column) for column in zip(*samples, strict=True))
    sure = torch.tensor([one for one, _ in samples], dtype=torch.double)
    assert expected_calibration_error(sure, right) == pytest.approx(brute_force(samples), abs=1e-9)


def test_the_error_of_known_cases() -> None:
    sure = torch.full((10,), 0.95)
    assert expected_calibration_error(sure, torch.ones(10, dtype=torch.bool)) == pytest.approx(5, abs=1e-5)
    assert expected_calibration_error(sure, torch.zeros(10, dtype=torch.bool)) == pytest.approx(95, abs=1e-5)
    half = torch.tensor([True, False] * 5)
    assert expected_calibration_error(torch.full((10,), 0.5), half) == pytest.approx(0, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 2**31))
def test_the_likelihood_is_that_of_a_plain_softmax(samples, classes, seed) -> None:
    random = torch.Generator().manual_seed(seed)
    logits_ML = 20 * torch.randn(samples, classes, generator=random)
    labels_M = torch.randint(0, classes, (samples,), generator=random)
    total = 0.0
    for row, label in zip(logits_ML.tolist(), labels_M.tolist(), strict=True):
        top = max(row)
        total += top + math.log(sum(math.exp(one - top) for one in row)) - row[label]
    assert negative_log_likelihood(logits_ML, labels_M) == pytest.approx(total / samples, rel=1e-9, abs=1e-12)


def test_many_rows_are_one_mean(monkeypatch) -> None:
    logits_ML, labels_M = torch.randn(10, 3), torch.arange(10) % 3
    whole = negative_log_likelihood(logits_ML, labels_M)
    monkeypatch.setattr("hardviews.evaluation.calibration._ROWS", 3)
    assert negative_log_likelihood(logits_ML, labels_M) == pytest.approx(whole, rel=1e-12)
