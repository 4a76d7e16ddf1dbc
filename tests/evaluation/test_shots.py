import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.errors import UserError
from hardviews.evaluation.probes.shots import draw_shots


def dataset(classes, each, seed=0):
    named = [(label, f"{label}/{i}") for label in range(classes) for i in range(each)]
    random.Random(seed).shuffle(named)
    return [label for label, _ in named], [key for _, key in named]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 99), st.data())
def test_every_class_gives_as_many_and_fewer_shots_are_among_more(classes, each, seed, data):
    labels, keys = dataset(classes, each)
    shots = data.draw(st.integers(0, each))
    drawn = draw_shots(labels, keys, shots, seed)
    assert np.bincount(np.array(labels)[drawn], minlength=classes).tolist() == [shots] * classes
    assert drawn.tolist() == sorted(drawn.tolist())
    assert set(draw_shots(labels, keys, max(0, shots - 1), seed)) <= set(drawn)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(1, 1000))
def test_the_order_of_the_dataset_and_other_classes_change_nothing(seed, order):
    labels, keys = dataset(4, 10)
    drawn = {keys[i] for i in draw_shots(labels, keys, 3, seed)}
    others, other_keys = dataset(4, 10, order)
    assert {other_keys[i] for i in draw_shots(others, other_keys, 3, seed)} == drawn
    first = [i for i, label in enumerate(labels) if label == 1]
    alone = draw_shots([1] * len(first), [keys[i] for i in first], 3, seed)
    assert {keys[first[i]] for i in alone} == {key for key in drawn if key.startswith("1/")}


def test_seeds_draw_differently_and_evenly():
    labels, keys = dataset(1, 10)
    counts = np.zeros(10)
    for seed in range(600):
        counts[draw_shots(labels, keys, 2, seed)] += 1
    assert counts.sum() == 1200
    assert np.abs(counts - 120).max() < 5 * np.sqrt(600 * 0.2 * 0.8)


def test_a_class_that_is_too_small_is_named():
    with pytest.raises(UserError, match="Class 1 has only 2 images, and 3 shots"):
        draw_shots([0, 0, 0, 1, 1], list("abcde"), 3)
