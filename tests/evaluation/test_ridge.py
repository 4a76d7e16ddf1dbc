import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.evaluation.probes.ridge import PENALTY, ridge_scores

PENALTIES = (0.01, 1.0, PENALTY)


def problem(n, m, d, classes, seed):
    numbers = np.random.default_rng(seed)
    train, test = (numbers.normal(1.0, numbers.uniform(0.5, 3, d), (size, d)) for size in (n, m))
    return train, numbers.integers(0, classes, n), test


def solved(train, labels, test, classes, penalty):
    """The normal equations, solved directly."""
    mean, std = train.mean(0), train.std(0) + 1e-5
    x, t = (np.column_stack([(z - mean) / std, np.full(len(z), 100.0)]) for z in (train, test))
    y = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)
    return t @ np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 10), st.integers(1, 30), st.integers(2, 5), st.integers(0, 999))
def test_equals_the_normal_equations_for_every_penalty_at_once(n, m, d, classes, seed):
    train, labels, test = problem(n, m, d, classes, seed)
    found = ridge_scores(*map(torch.from_numpy, (train, labels, test)), classes, PENALTIES)
    for penalty in PENALTIES:
        expected = solved(train, labels, test, classes, penalty)
        np.testing.assert_allclose(found[penalty], expected, atol=1e-6 * max(1.0, np.abs(expected).max()))


def test_both_gram_matrices_give_one_solution():
    train, labels, test = problem(21, 8, 20, 3, 0)  # as many shots as features, with the constant one
    square = ridge_scores(*map(torch.from_numpy, (train, labels, test)), 3)[PENALTY]
    wide = [np.column_stack([x, np.zeros((len(x), 5))]) for x in (train, test)]  # features that say nothing
    found = ridge_scores(torch.from_numpy(wide[0]), torch.from_numpy(labels), torch.from_numpy(wide[1]), 3)[PENALTY]
    torch.testing.assert_close(found, square)


def test_float32_features_and_scales_do_not_matter_and_constant_features_divide_nothing():
    train, labels, test = problem(30, 10, 6, 3, 1)
    train[:, 2] = test[:, 2] = 5.0
    arguments = torch.from_numpy(train).float(), torch.from_numpy(labels), torch.from_numpy(test).float()
    scores = ridge_scores(*arguments, 3)[PENALTY]
    assert scores.dtype == torch.float64 and torch.isfinite(scores).all()
    scaled = ridge_scores(1000 * arguments[0], arguments[1], 1000 * arguments[2], 3)
    torch.testing.assert_close(scaled[PENALTY], scores, rtol=1e-3, atol=1e-3)


def test_separable_classes_are_separated():
    centres = np.eye(4) * 10
    numbers = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 5)
    train, test = (centres[labels] + numbers.normal(size=(20, 4)) for _ in range(2))
    scores = ridge_scores(*map(torch.from_numpy, (train, labels, test)), 4)[PENALTY]
    assert (scores.argmax(1).numpy() == labels).all()


def test_the_comparison_can_fail():
    train, labels, test = problem(12, 4, 5, 3, 0)
    found = ridge_scores(*map(torch.from_numpy, (train, labels, test)), 3, (1.0,))[1.0].numpy()
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found, solved(train, labels, test, 3, 1.01), atol=1e-6)
