"""Rows: boxes inside the image, a function of the position alone, distributed like torchvision's."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import ColorJitter, RandomResizedCrop

from hardviews.views.augmentation import Augmentation, Jitter, dino_global2, simclr
from hardviews.views.params import ORDERS, Column, draw

LENGTHS = st.integers(1, 3000)
SHARES = st.floats(0.01, 1.0)
RATIOS = st.floats(0.2, 5.0)


def draw_many(augmentation: Augmentation, n: int, height: int, width: int, view: int = 0) -> np.ndarray:
    return draw(augmentation, 0, 0, np.arange(n), view, np.full(n, height), np.full(n, width))


@settings(deadline=None)
@given(
    st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=8),
    st.tuples(SHARES, SHARES).map(lambda pair: (min(pair), max(pair))),
    st.tuples(RATIOS, RATIOS).map(lambda pair: (min(pair), max(pair))),
    st.integers(0, 2**40),
)
def test_the_box_is_whole_and_inside_the_image(sizes, scale, ratio, seed):
    height, width = np.array(sizes).T
    rows = draw(Augmentation(scale=scale, ratio=ratio), seed, 3, np.arange(len(sizes)), 1, height, width)
    assert rows.dtype == np.float32 and rows.shape == (len(sizes), len(Column))
    box = rows[:, : Column.WIDTH + 1]
    np.testing.assert_array_equal(box, np.rint(box))
    assert (box[:, :2] >= 0).all() and (box[:, 2:] >= 1).all()
    assert (rows[:, Column.TOP] + rows[:, Column.HEIGHT] <= height).all()
    assert (rows[:, Column.LEFT] + rows[:, Column.WIDTH] <= width).all()
    np.testing.assert_array_equal(rows[:, Column.SOURCE_HEIGHT], height)
    np.testing.assert_array_equal(rows[:, Column.SOURCE_WIDTH], width)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 12))
def test_any_split_of_the_batch_draws_the_same_rows(seed, epoch, view, n, share):
    position, height, width = np.arange(n) + 17, np.arange(n) + 90, np.full(n, 77)
    whole = draw(dino_global2(), seed, epoch, position, view, height, width)
    parts = [
        draw(dino_global2(), seed, epoch, *(a[i : i + share] for a in (position,)), view, height[i : i + share],
             width[i : i + share])
        for i in range(0, n, share)
    ]  # fmt: skip
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_view_numbers_seeds_and_epochs_are_independent():
    size = np.full(50, 300)
    drawn = [
        draw(simclr(), seed, epoch, np.arange(50), pool << 16 | candidate, size, size)
        for seed in (0, 1)
        for epoch in (0, 1)
        for pool in (0, 1)
        for candidate in range(4)
    ]
    rows = np.concatenate(drawn)[:, : Column.ORDER]
    assert len(np.unique(rows, axis=0)) > 0.99 * len(rows)


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(375, 500, (0.2, 1.0)), (500, 333, (0.05, 0.4)), (60, 400, (0.2, 1.0)), (16, 16, (0.3, 0.9))],
)
def test_boxes_are_distributed_like_torchvisions(height, width, scale):
    n = 3000
    rows = draw_many(Augmentation(scale=scale), n, height, width)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, scale, (3 / 4, 4 / 3)) for _ in range(n)], np.float64)
    ours = rows[:, : Column.WIDTH + 1].astype(np.float64)
    for a, b in (
        (ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]),
        (ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2]),
        (ours[:, 0] / (height + 1 - ours[:, 2]), theirs[:, 0] / (height + 1 - theirs[:, 2])),
        (ours[:, 1] / (width + 1 - ours[:, 3]), theirs[:, 1] / (width + 1 - theirs[:, 3])),
        (ours[:, 0], theirs[:, 0]),
        (ours[:, 3], theirs[:, 3]),
    ):
        assert scipy.stats.ks_2samp(a, b).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(100, 1000), (1000, 100), (37, 211), (1, 50), (50, 1)])
def test_where_no_try_fits_the_box_is_torchvisions_central_one(height, width):
    scale, ratio = (0.95, 1.0), (0.9, 1.1)
    expected = RandomResizedCrop.get_params(torch.empty(3, height, width), scale, ratio)
    rows = draw_many(Augmentation(scale=scale, ratio=ratio), 5, height, width)
    np.testing.assert_array_equal(rows[:, : Column.WIDTH + 1], np.tile(expected, (5, 1)))


def test_colours_are_distributed_like_torchvisions():
    n = 3000
    jitter = Jitter(0.8, 0.4, 1.5, 0.2, probability=1.0)
    rows = draw_many(Augmentation(jitter=jitter), n, 100, 100)
    torch.manual_seed(0)
    theirs = [ColorJitter.get_params((0.2, 1.8), (0.6, 1.4), (0.0, 2.5), (-0.2, 0.2)) for _ in range(n)]
    factors = np.array([p[1:] for p in theirs], np.float64)
    for i, column in enumerate((Column.BRIGHTNESS, Column.CONTRAST, Column.SATURATION, Column.HUE)):
        assert scipy.stats.ks_2samp(rows[:, column], factors[:, i]).pvalue > 1e-3
    counts = np.bincount(rows[:, Column.ORDER].astype(int), minlength=24)
    assert len(ORDERS) == len(counts) == 24 and scipy.stats.chisquare(counts).pvalue > 1e-3


def test_each_operation_happens_as_often_as_its_probability():
    n = 4000
    augmentation = Augmentation(
        flip=0.5, grayscale=0.2, blur=0.3, solarise=0.1, sigma=(0.5, 1.5), jitter=Jitter(probability=0.6)
    )
    rows = draw_many(augmentation, n, 100, 100)
    happened = {
        0.5: rows[:, Column.FLIP] > 0,
        0.2: rows[:, Column.GRAY] > 0,
        0.3: rows[:, Column.SIGMA] > 0,
        0.1: rows[:, Column.SOLARISE] > 0,
        0.6: rows[:, Column.BRIGHTNESS] != 1,
    }
    for probability, flags in happened.items():
        assert scipy.stats.binomtest(int(flags.sum()), n, probability).pvalue > 1e-3
    assert np.abs(np.corrcoef(np.stack(list(happened.values())))[np.triu_indices(5, 1)]).max() < 0.06
    sigma = rows[happened[0.3], Column.SIGMA]
    assert scipy.stats.kstest(sigma, "uniform", (0.5, 1.0)).pvalue > 1e-3


def test_probabilities_of_zero_and_one_are_exact():
    off = Augmentation(flip=0, grayscale=0, blur=0, solarise=0, jitter=Jitter(probability=0))
    rows = draw_many(off, 500, 50, 50)
    neutral = dict.fromkeys((Column.BRIGHTNESS, Column.CONTRAST, Column.SATURATION), 1.0)
    for column in list(Column)[Column.FLIP :]:
        assert (rows[:, column] == neutral.get(column, 0.0)).all()
    on = replace(off, flip=1, grayscale=1, blur=1, solarise=1)
    rows = draw_many(on, 500, 50, 50)
    for column in (Column.FLIP, Column.GRAY, Column.SIGMA, Column.SOLARISE):
        assert (rows[:, column] > 0).all()
