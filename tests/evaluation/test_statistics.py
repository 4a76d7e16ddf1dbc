import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hardviews.evaluation.predictions import correct_of, to_csv
from hardviews.evaluation.statistics import (
    accuracy,
    difference_of_means,
    over_seeds,
    paired_difference,
    paired_permutation,
)


def results(seed, count=400, share=0.7):
    return np.random.default_rng(seed).random(count) < share


def test_wilsons_interval_is_scipys():
    correct = results(0)
    expected = stats.binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="wilson")
    found = accuracy(correct)
    assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert found.value == pytest.approx(100 * correct.mean())


@pytest.mark.parametrize("gain", [0, 5, 15, 40])
def test_the_permutation_test_is_the_exact_sign_test(gain):
    """Of samples on which two runs disagree, who is right is a toss of a coin."""
    first, second = results(0), results(1)
    second = np.where(np.arange(400) < gain, False, second)
    ahead, behind = int((first & ~second).sum()), int((second & ~first).sum())
    exact = stats.binomtest(ahead, ahead + behind, 0.5).pvalue
    assert paired_permutation(first, second, draws=200_000) == pytest.approx(exact, abs=5e-3)


def test_the_interval_of_a_paired_difference_is_that_of_the_mean():
    first, second = results(0), results(1)
    difference = first.astype(float) - second
    reach = stats.norm.ppf(0.975) * difference.std(ddof=1) / 20
    found = paired_difference(first, second)
    mean = difference.mean()
    assert (found.value, found.low, found.high) == pytest.approx(
        (100 * mean, 100 * (mean - reach), 100 * (mean + reach))
    )


def test_equal_runs_do_not_differ():
    correct = results(0)
    assert paired_difference(correct, correct).holds_zero and paired_permutation(correct, correct) == 1.0


def test_the_interval_holds_the_truth_in_95_of_100_experiments():
    inside = 0
    for seed in range(400):
        first, second = results(seed, 300, 0.8), results(seed + 1000, 300, 0.75)
        found = paired_difference(first, second)
        inside += found.low <= 5 <= found.high
    assert 0.91 <= inside / 400 <= 0.98


def test_means_over_seeds_and_welchs_interval():
    first, second = [70.1, 70.6, 69.8], [69.0, 69.3]
    mean = over_seeds(first)
    assert (mean.value, mean.deviation, mean.runs) == pytest.approx((np.mean(first), np.std(first, ddof=1), 3))
    assert over_seeds([1.0]).deviation is None
    found = difference_of_means(first, second)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert difference_of_means(first, [69.0]) is None
    assert difference_of_means([70.0, 70.0], [69.0, 69.0]).low == 1.0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_predictions_are_read_as_they_were_written(pairs):
    labels, found = torch.tensor(pairs).T
    assert correct_of(to_csv(labels, found)).tolist() == [a == b for a, b in pairs]


@pytest.mark.parametrize("text", ["", "a,b\n", "sample,label,prediction,correct\n1,0,0,1\n"])
def test_other_files_and_cut_ones_are_not_predictions(text):
    with pytest.raises(ValueError):
        correct_of(text)
