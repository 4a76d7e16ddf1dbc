"""An encoder takes images in every form that people have them in, and sees the same."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hardviews
from hardviews.errors import UserError
from hardviews.models.backbones import Backbone
from hardviews.models.classifier import Classifier
from hardviews.models.encoder import Encoder, save
from hardviews.views.augmentation import Normalisation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("encoder")
    backbone = Backbone("test_resnet")
    state = {"weight": torch.randn(3, backbone.num_features), "bias": torch.randn(3)}
    classifier = Classifier.of(state, ("cat", "dog", "owl"))
    encoder = Encoder(backbone, Normalisation(), image_size=32, classifier=classifier)
    save(encoder, place)
    return place


def picture(height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_every_form_of_an_image_has_the_same_features(folder: Path, tmp_path: Path) -> None:
    encoder = hardviews.load(folder)
    array = picture()
    image = Image.fromarray(array)
    image.save(tmp_path / "image.png")
    coded = io.BytesIO()
    image.save(coded, "PNG")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    forms: list[Any] = [array, image, str(tmp_path / "image.png"), tmp_path / "image.png", coded.getvalue(), tensor]
    forms.append(np.dstack([array, np.full((32, 32), 255, np.uint8)]))  # with an alpha channel
    features = encoder.embed(forms)
    assert features.shape == (len(forms), encoder.num_features)
    np.testing.assert_allclose(features, np.repeat(features[:1], len(forms), 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.embed(array), features[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.embed(np.stack([array, array])), features[:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.embed(torch.stack([tensor] * 3), batch=2), features[:3], rtol=1e-4, atol=1e-5)
    expected = encoder.encoder.embed(tensor[None])[0].numpy()
    np.testing.assert_allclose(features[0], expected, rtol=1e-4, atol=1e-5)


def test_images_of_any_size_and_grey_ones_become_the_input_of_evaluations(folder: Path) -> None:
    encoder = hardviews.load(folder)
    mixed = [picture(50, 70), picture(33, 20), picture()[..., 0], Image.fromarray(picture(40, 40)).convert("L")]
    features = encoder.embed(mixed)
    assert features.shape[0] == 4 and np.isfinite(features).all()
    wide = encoder.preprocess.of_pixels(picture(50, 70))
    np.testing.assert_allclose(features[0], encoder.encoder.embed(wide[None])[0].numpy(), rtol=1e-4, atol=1e-5)
    assert encoder.embed([]).shape == (0, encoder.num_features)


def test_a_classifier_gives_probabilities(folder: Path, tmp_path: Path) -> None:
    encoder = hardviews.load(folder)
    assert encoder.classes == ("cat", "dog", "owl")
    found = encoder.classify([picture(), picture(40, 50)])
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert encoder.classify(picture()).shape == (3,)
    save(Encoder(Backbone("test_resnet"), Normalisation(), image_size=32), tmp_path)
    bare = hardviews.load(tmp_path)
    assert bare.classes == ()
    with pytest.raises(UserError, match="no classifier"):
        bare.classify(picture())


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("nowhere.png", r"nowhere\.png cannot be read"),
        (b"no image", "image 1 is not an image"),
        (picture().astype(np.float32), "Image 1 is a float32 array"),
        (picture().reshape(32, 8, 12), r"Image 1 has the shape \(32, 8, 12\)"),
        (None, "Image 1 is a NoneType"),
    ],
)
def test_things_that_are_not_images_are_named(folder: Path, image: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        hardviews.load(folder).embed([picture(), image])


def test_no_encoder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no encoder"):
        hardviews.load(tmp_path)
