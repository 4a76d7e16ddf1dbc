"""Geometry of pairs of views: counted pixels, and the published expectations of random crops."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.views.augmentation import Augmentation
from hardviews.views.geometry import boxes, centre_distance, colour_distance, iou
from hardviews.views.params import Column, draw

SIDE = 12
SPANS = st.tuples(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1)).map(lambda s: (min(s), max(s) + 1))
BOXES = st.tuples(SPANS, SPANS)


def row(box) -> torch.Tensor:
    (top, bottom), (left, right) = box
    values = torch.zeros(len(Column))
    values[: Column.SOURCE_WIDTH + 1] = torch.tensor([top, left, bottom - top, right - left, SIDE, SIDE])
    return values


def covered(box) -> np.ndarray:
    (top, bottom), (left, right) = box
    pixels = np.zeros((SIDE, SIDE), bool)
    pixels[top:bottom, left:right] = True
    return pixels


@settings(deadline=None)
@given(BOXES, BOXES)
def test_iou_equals_counted_pixels(a, b):
    expected = (covered(a) & covered(b)).sum() / (covered(a) | covered(b)).sum()
    assert iou(row(a), row(b)).item() == pytest.approx(expected)
    assert iou(row(b), row(a)).item() == pytest.approx(expected)
    assert iou(row(a), row(a)).item() == 1
    assert boxes(row(a)).tolist() == [a[0][0], a[1][0], a[0][1], a[1][1]]


@settings(deadline=None)
@given(BOXES, BOXES)
def test_centre_distance_is_a_share_of_the_diagonal(a, b):
    centre = [np.argwhere(covered(box)).mean(axis=0) for box in (a, b)]
    expected = np.linalg.norm(centre[0] - centre[1]) / np.hypot(SIDE, SIDE)
    assert centre_distance(row(a), row(b)).item() == pytest.approx(expected, abs=1e-6)


def test_colour_distance_reads_the_four_factors():
    a, b = torch.zeros(2, len(Column)), torch.zeros(2, len(Column))
    b[1, Column.BRIGHTNESS], b[1, Column.HUE], b[1, Column.ORDER] = 0.3, -0.4, 20
    torch.testing.assert_close(colour_distance(a, b), torch.tensor([0.0, 0.5]))


@pytest.mark.parametrize(
    ("scale", "random_pair", "least"),
    [((0.2, 1.0), 0.474, 0.286), ((0.4, 1.0), 0.609, 0.452), ((0.08, 1.0), 0.378, 0.179)],
)
def test_overlap_of_random_crops_is_as_calculated(scale, random_pair, least):
    n = 4000
    size = np.full(n, 375), np.full(n, 500)
    views = [torch.from_numpy(draw(Augmentation(scale=scale), 0, 0, np.arange(n), v, *size)) for v in range(4)]
    overlaps = torch.stack([iou(a, b) for a, b in combinations(views, 2)])
    assert overlaps.mean().item() == pytest.approx(random_pair, abs=0.02)
    assert overlaps.amin(dim=0).mean().item() == pytest.approx(least, abs=0.02)
