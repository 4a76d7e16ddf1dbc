"""Each figure of health against another formula, and on features whose figures are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.health.alignment import alignment
from hardviews.health.alpha import decay, decay_of
from hardviews.health.collapsed_dims import collapsed_dims
from hardviews.health.figures import figures
from hardviews.health.lidar import lidar
from hardviews.health.rankme import rankme
from hardviews.health.spectrum import covariance_eigenvalues, singular_values
from hardviews.health.spread import spread
from hardviews.health.uniformity import uniformity

SIZES = st.integers(2, 30)
SEEDS = st.integers(0, 1000)
AS_GIVEN = settings(max_examples=25, deadline=None)


def features(n, d, seed, rank=None):
    """Features of mean 0.3 whose directions have different lengths."""
    numbers = np.random.default_rng(seed)
    if rank is not None:
        return torch.from_numpy(numbers.normal(size=(n, rank)) @ numbers.normal(size=(rank, d)))
    return torch.from_numpy(numbers.normal(0.3, 1.0, (n, d)) * numbers.uniform(0.1, 2, d))


def orthogonal(n, seed=0):
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    return torch.from_numpy(matrix)


# The spectrum


@AS_GIVEN
@given(SIZES, SIZES, SEEDS)
def test_singular_values_and_eigenvalues_are_numpys(n, d, seed):
    values = features(n, d, seed)
    expected = np.linalg.svd(values.numpy(), compute_uv=False)
    np.testing.assert_allclose(singular_values(values), expected, atol=1e-6 * expected[0])
    covariance = np.atleast_2d(np.cov(values.numpy(), rowvar=False))
    expected = np.sort(np.linalg.eigvalsh(covariance))[::-1][: min(n, d)]
    np.testing.assert_allclose(covariance_eigenvalues(values), expected, atol=1e-9)


def test_float32_features_are_computed_in_float64():
    values = features(20, 10, 0).float()
    assert rankme(values) == rankme(values.double())
    assert singular_values(values).dtype == torch.float64


# RankMe


@AS_GIVEN
@given(SIZES, SIZES, SEEDS)
def test_rankme_is_the_formula_on_numpys_singular_values(n, d, seed):
    values = features(n, d, seed)
    sigma = np.linalg.svd(values.numpy(), compute_uv=False)
    share = sigma / sigma.sum() + 1e-7
    assert rankme(values) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-5)
    assert rankme(values) == pytest.approx(rankme(values * 1000), rel=1e-5)


def test_rankme_of_orthogonal_features_is_their_number_and_of_one_direction_is_one():
    assert rankme(orthogonal(16)) == pytest.approx(16, rel=1e-4)
    assert rankme(features(40, 16, 0, rank=1)) == pytest.approx(1, abs=1e-3)
    assert rankme(torch.ones(40, 16)) == pytest.approx(1, abs=1e-3)
    assert rankme(torch.zeros(40, 16)) == 1


# alpha-ReQ


@pytest.mark.parametrize("alpha", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("count", [60, 100, 400])
def test_alpha_of_a_power_law_is_its_exponent(alpha, count):
    """Features made so that their covariance has exactly these eigenvalues."""
    n = count + 1
    centred, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
    centred = np.linalg.qr((np.eye(n) - 1 / n) @ centred)[0][:, :count]
    centred = centred - centred.mean(0)
    values = torch.from_numpy(np.linalg.qr(centred)[0] * np.arange(1, count + 1) ** (-alpha / 2))
    found = decay(values)
    assert found.alpha == pytest.approx(alpha, rel=1e-6)
    assert found.r2 == pytest.approx(1, abs=1e-6)


@AS_GIVEN
@given(st.integers(14, 150), SEEDS)
def test_alpha_is_numpys_weighted_fit(count, seed):
    eigenvalues = np.sort(np.random.default_rng(seed).uniform(0.01, 5, count))[::-1].copy()
    found = decay_of(torch.from_numpy(eigenvalues))
    rank = np.arange(11, min(count, 100) + 1)
    x, y = np.log(rank), np.log(eigenvalues[10:100])
    slope, offset = np.polyfit(x, y, 1, w=np.sqrt(1 / rank))  # numpy weighs residuals, not their squares
    mean = np.average(y, weights=1 / rank)
    left, total = (np.average(r**2, weights=1 / rank) for r in (y - slope * x - offset, y - mean))
    assert found.alpha == pytest.approx(-slope, rel=1e-6)
    assert found.r2 == pytest.approx(1 - left / total, rel=1e-6, abs=1e-9)


def test_alpha_leaves_out_rounding_and_needs_three_ranks():
    law = torch.arange(1, 41, dtype=torch.float64) ** -1.0
    assert decay_of(torch.cat([law, torch.full((60,), 1e-17, dtype=torch.float64)])).alpha == pytest.approx(1)
    assert decay_of(law[:12]) is None and decay_of(law[:13]) is not None
    assert decay(torch.ones(30, 20)) is None


# LiDAR


def plain_lidar(views):
    """The rank by eigenvalues of Sw^-1 Sb, which is not symmetric, sample by sample."""
    n, q, d = views.shape
    means = views.mean(1)
    between, within = np.zeros((d, d)), 1e-4 * np.eye(d)
    for image in range(n):
        off = means[image] - means.mean(0)
        between += np.outer(off, off) / (n - 1)
        for view in range(q):
            off = views[image, view] - means[image]
            within += np.outer(off, off) / (n * (q - 1))
    eigenvalues = np.linalg.eigvals(np.linalg.inv(within) @ between).real.clip(min=0)
    share = eigenvalues / eigenvalues.sum() + 1e-8
    return np.exp(-(share * np.log(share)).sum())


@AS_GIVEN
@given(st.integers(2, 12), st.integers(2, 5), st.integers(1, 12), SEEDS)
def test_lidar_is_the_plain_formula(n, q, d, seed):
    views = np.random.default_rng(seed).normal(size=(n, q, d)) + np.random.default_rng(seed + 1).normal(size=(n, 1, d))
    assert lidar(torch.from_numpy(views)) == pytest.approx(plain_lidar(views), rel=1e-4)


def test_lidar_of_one_point_and_of_one_direction_is_one_and_of_orthogonal_images_their_number():
    assert lidar(torch.ones(8, 4, 6)) == 1
    along = torch.arange(8.0)[:, None, None] * torch.ones(8, 4, 6)
    assert lidar(along) == pytest.approx(1, abs=1e-4)
    # Eight equally distant images: all directions among them count, one less than images.
    assert lidar(torch.eye(8)[:, None].expand(8, 4, 8)) == pytest.approx(7, rel=1e-4)


# On the sphere


@AS_GIVEN
@given(SIZES, SIZES, SEEDS)
def test_uniformity_and_alignment_are_loops_over_pairs(n, d, seed):
    values, others = features(n, d, seed).numpy(), features(n, d, seed + 1).numpy()
    unit, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (values, others))
    pairs = [math.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(n) for j in range(i)]
    assert uniformity(torch.from_numpy(values)) == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=1e-9)
    near = np.mean([((a - b) ** 2).sum() for a, b in zip(unit, other, strict=True)])
    assert alignment(torch.from_numpy(values), torch.from_numpy(others)) == pytest.approx(near, abs=1e-9)


def test_uniformity_in_parts_is_that_of_the_whole(monkeypatch):
    values = features(37, 5, 0)
    whole = uniformity(values)
    monkeypatch.setattr("hardviews.health.uniformity._PART", 10)
    assert uniformity(values) == pytest.approx(whole, abs=1e-12)


def test_a_collapse_has_the_uniformity_zero_and_random_directions_have_minus_four():
    assert uniformity(torch.ones(30, 8)) == pytest.approx(0, abs=1e-12)
    assert uniformity(torch.from_numpy(np.random.default_rng(0).normal(size=(200, 4000)))) == pytest.approx(-4, abs=0.1)


# Dimensions


def test_collapsed_dimensions_are_those_that_hardly_move_whatever_the_scale():
    values = features(200, 8, 0)
    values[:, :2] = values[0, :2] + 1e-4 * values[:, :2]
    assert collapsed_dims(values) == collapsed_dims(1e-6 * values) == 0.25
    assert collapsed_dims(torch.ones(20, 5)) == collapsed_dims(torch.zeros(20, 5)) == 1
    assert collapsed_dims(features(200, 8, 0)) == 0


def test_the_spread_of_even_directions_is_one_and_of_a_collapse_zero():
    even = torch.from_numpy(np.random.default_rng(0).normal(size=(4000, 32)))
    assert spread(even) == pytest.approx(1, abs=0.02)
    assert spread(torch.ones(20, 5)) == pytest.approx(0, abs=1e-9)
    x = even[:50].numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert spread(even[:50]) == pytest.approx(x.std(0, ddof=1).mean() * math.sqrt(32))


# All of them


def test_features_that_are_not_finite_have_no_figures_and_others_have_all():
    views = features(30, 40, 0).unflatten(0, (10, 3))
    assert set(figures(features(60, 40, 0), views)) == {
        *("rankme", "alpha", "alpha_r2", "uniformity", "collapsed_dims", "spread", "lidar", "alignment")
    }
    broken = features(60, 40, 0)
    broken[3, 4] = math.nan
    assert set(figures(broken, views)) == {"lidar", "alignment"}
    assert figures(features(1, 40, 0), views[:1]) == {}
