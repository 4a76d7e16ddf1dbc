"""Both forms of average precision against cases that were computed by hand, and against brute force in fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from hardviews.evaluation.average_precision import eleven_point, interpolated_area, mean_precision

# Scores, sets, the area, the mean of eleven points.
BY_HAND = [
    # Precision 1 at recall 1/2, 2/3 at recall 1: eleven points have six ones (0, ..., 0.5) and five times 2/3.
    ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], 5 / 6, (6 + 5 * 2 / 3) / 11),
    # A later, higher precision counts for lower recalls: 1/2 at 1/2 becomes 2/3.
    ([0.9, 0.8, 0.7], [0, 1, 1], 2 / 3, 2 / 3),
    # The ignored image is not there.
    ([0.9, 0.95, 0.8, 0.7, 0.6], [1, -1, 0, 1, 0], 5 / 6, (6 + 5 * 2 / 3) / 11),
    # Equal scores are one group: of two images one is of the class.
    ([0.5, 0.5], [1, 0], 1 / 2, 1 / 2),
    ([0.5, 0.5], [0, 1], 1 / 2, 1 / 2),
    ([3.0, 2.0, 1.0], [1, 1, 1], 1.0, 1.0),
    ([3.0, 2.0, 1.0], [0, 0, 1], 1 / 3, 1 / 3),
]


def brute(scores, sets):
    """Every threshold, every recall: no sorting, no sums that are carried along, no floating point."""
    judged = [(score, value == 1) for score, value in zip(scores, sets, strict=True) if value != -1]
    total = sum(hit for _, hit in judged)
    curve = []
    for threshold in {score for score, _ in judged}:
        kept = [hit for score, hit in judged if score >= threshold]
        curve.append((Fraction(sum(kept), total), Fraction(sum(kept), len(kept))))

    def best(recall):
        return max(precision for found, precision in curve if found >= recall)

    eleven = sum(best(Fraction(tenth, 10)) for tenth in range(11)) / 11
    area = sum(best(Fraction(hit, total)) for hit in range(1, total + 1)) / total
    return float(area), float(eleven)


def as_arrays(scores, sets):
    return np.array(scores, float), np.array(sets, np.int8)


@pytest.mark.parametrize(("scores", "sets", "area", "eleven"), BY_HAND)
def test_cases_by_hand(scores, sets, area, eleven):
    assert interpolated_area(*as_arrays(scores, sets)) == pytest.approx(area, abs=1e-12)
    assert eleven_point(*as_arrays(scores, sets)) == pytest.approx(eleven, abs=1e-12)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from([1, 0, -1])), min_size=1, max_size=40).filter(
        lambda pairs: any(value == 1 for _, value in pairs)
    )
)
def test_both_are_those_of_brute_force(pairs):
    scores, sets = zip(*pairs, strict=True)
    area, eleven = brute(scores, sets)
    assert interpolated_area(*as_arrays(scores, sets)) == pytest.approx(area, abs=1e-12)
    assert eleven_point(*as_arrays(scores, sets)) == pytest.approx(eleven, abs=1e-12)


def test_the_area_is_that_of_vissl_and_near_the_one_without_interpolation():
    """VISSL's rule written out, for scores without ties: recall from 0 to 1, the envelope from the right."""
    random = np.random.default_rng(0)
    scores, sets = random.normal(size=200), random.integers(0, 2, 200).astype(np.int8)
    hits = sets[np.argsort(-scores)] == 1
    recall = np.concatenate(([0], np.cumsum(hits) / hits.sum(), [1]))
    precision = np.concatenate(([0], np.cumsum(hits) / np.arange(1, 201), [0]))
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    expected = ((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum()
    assert interpolated_area(scores, sets) == pytest.approx(expected, abs=1e-12)
    plain = average_precision_score(sets, scores)
    assert plain < interpolated_area(scores, sets) < plain + 0.05


@pytest.mark.parametrize("positives", [3, 7, 10, 30])
def test_the_recall_of_a_point_is_exact(positives):
    """The tenth of 0.3 is reached by 3 of 10 images; 0.1 + 0.2 would miss it."""
    sets = np.zeros(4 * positives, np.int8)
    sets[: 2 * positives : 2] = 1
    scores = -np.arange(len(sets), dtype=float)
    assert eleven_point(scores, sets) == pytest.approx(brute(scores.tolist(), sets.tolist())[1], abs=1e-12)


def test_the_mean_leaves_out_classes_without_an_image():
    scores = torch.tensor([[0.9, 0.1, 0.3], [0.8, 0.2, 0.2], [0.7, 0.3, 0.1], [0.6, 0.4, 0.0]])
    sets = torch.tensor([[1, 0, 0], [0, 0, -1], [1, 0, 1], [0, 0, 0]], dtype=torch.int8)
    assert mean_precision(interpolated_area, scores, sets) == pytest.approx(100 * (5 / 6 + 1 / 2) / 2)
    assert mean_precision(interpolated_area, scores, torch.zeros_like(sets)) == 0
