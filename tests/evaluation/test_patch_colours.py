"""Colours of patches: principal components in an independent formula, and their invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.evaluation.monitoring.patch_colours import _WIDE, _components, patch_colours


def parts(seed: int, width: int = 20, count: int = 4):
    """Features of parts that follow their colours to some extent, and the colours."""
    rng = np.random.default_rng(seed)
    own = torch.from_numpy(rng.random((count, 5, 5, 3)))
    mixed = own @ torch.from_numpy(rng.normal(size=(3, width)))
    return mixed + 0.3 * torch.from_numpy(rng.normal(size=(count, 5, 5, width))), own


def test_components_are_those_of_scikit_learn_with_the_largest_loading_positive() -> None:
    from sklearn.decomposition import PCA

    values = parts(0)[0].flatten(0, 2)
    pca = PCA(3, whiten=True).fit(values)
    expected = pca.transform(values) * np.sqrt(len(values) / (len(values) - 1))
    signs = np.sign(pca.components_[np.arange(3), np.abs(pca.components_).argmax(1)])
    np.testing.assert_allclose(_components(values).numpy(), expected * signs, atol=1e-8)


@pytest.mark.parametrize("width", [20, 300])
def test_wide_features_are_treated_as_narrow_ones(width: int) -> None:
    """Through the smaller of two products: N parts of D features."""
    values = parts(1, width)[0].flatten(0, 2)
    centred = (values - values.mean(0)).numpy()
    left, _, _ = np.linalg.svd(centred, full_matrices=False)
    expected = np.abs(left[:, :3]) * np.sqrt(len(values))
    np.testing.assert_allclose(_components(values).abs().numpy(), expected, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.1, 100.0))
def test_colours_stay_when_features_are_turned_mirrored_moved_or_scaled(seed, scale) -> None:
    """A network that trains turns its features: the same geometry has the same colours."""
    features, own = parts(seed)
    turn = torch.linalg.qr(torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(20, 20)))).Q
    shift = torch.from_numpy(np.random.default_rng(seed + 2).normal(size=20))
    before, after = patch_colours(features, own), patch_colours(scale * features @ turn + shift, own)
    # The hold on grey images depends a little on the signs of components.
    assert (before - after).abs().max() < 0.02


def test_features_that_are_colours_get_nearly_their_own() -> None:
    own = torch.from_numpy(np.random.default_rng(3).normal(size=(6, 5, 5, 3)))
    found = patch_colours(own @ torch.linalg.qr(torch.randn(3, 3, dtype=torch.double)).Q, own).flatten(0, 2)
    own = own.flatten(0, 2)
    for channel in range(3):
        assert np.corrcoef(found[:, channel], own[:, channel])[0, 1] > 0.95


def test_equal_features_have_equal_colours_in_all_images() -> None:
    features, own = parts(5)
    features[1, 2, 3] = features[0, 0, 0]
    found = patch_colours(features, own)
    torch.testing.assert_close(found[1, 2, 3], found[0, 0, 0])


@pytest.mark.parametrize("kind", ["constant", "two directions", "grey"])
def test_what_has_no_three_directions_has_colours_too(kind: str) -> None:
    features, own = parts(6)
    if kind == "constant":
        found = patch_colours(torch.ones_like(features), own)
        assert (found == 0.5).all()
        return
    if kind == "grey":
        own = own[..., :1].expand(own.shape)
    else:
        features = features[..., :2]
    found = patch_colours(features, own)
    assert torch.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    assert torch.equal(found, patch_colours(features.clone(), own.clone()))
    if kind == "two directions":
        powers = torch.linalg.eigvalsh(torch.cov(((found.flatten(0, 2) - 0.5) * 2 * _WIDE).T))
        assert powers[0] < 0.05 * powers[1], "the third direction shows nothing"
