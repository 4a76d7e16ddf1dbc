"""Augmentations: mistakes are named, normalisation is reversible."""

import pytest
import torch

from hardviews.errors import UserError
from hardviews.views import augmentation
from hardviews.views.augmentation import Augmentation, Jitter, Normalisation


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 0),
        ("scale", (0.5, 0.2)),
        ("scale", (0.0, 1.0)),
        ("scale", (0.2, 1.5)),
        ("ratio", (0.0, 1.0)),
        ("ratio", (2.0, 1.0)),
        ("sigma", (-1.0, 1.0)),
        ("sigma", (0.1, float("nan"))),
        ("flip", 1.5),
        ("grayscale", -0.1),
        ("blur", float("nan")),
        ("solarise", 2.0),
        ("interpolation", "nearest"),
        ("threshold", 300),
    ],
)
def test_a_wrong_field_is_named(field, value):
    with pytest.raises(UserError, match=rf"^augmentation\.{field} is "):
        Augmentation(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("brightness", -1.0), ("contrast", float("inf")), ("hue", 0.6), ("probability", 2.0)]
)
def test_a_wrong_jitter_is_named(field, value):
    with pytest.raises(UserError, match=rf"^jitter\.{field} is "):
        Jitter(**{field: value})


def test_a_zero_deviation_is_refused():
    with pytest.raises(UserError, match=r"^normalisation\.std is "):
        Normalisation(std=(1.0, 0.0, 1.0))


def test_published_augmentations():
    first, second = augmentation.dino_global1(), augmentation.dino_global2()
    assert (first.blur, first.solarise, second.blur, second.solarise) == (1.0, 0.0, 0.1, 0.2)
    assert first.interpolation == "bicubic" and first.jitter == Jitter(0.4, 0.4, 0.2, 0.1, 0.8)
    assert augmentation.dino_local().size == 96
    first, second = augmentation.byol_first(), augmentation.byol_second()
    assert (first.blur, first.solarise, second.blur, second.solarise) == (1.0, 0.0, 0.1, 0.2)
    assert first.jitter == second.jitter == Jitter(0.4, 0.4, 0.2, 0.1, 0.8)
    assert first.scale == second.scale == (0.08, 1.0) and first.interpolation == second.interpolation == "bicubic"
    large, small = augmentation.swav_global(), augmentation.swav_local()
    assert (large.size, large.scale, small.size, small.scale) == (224, (0.14, 1.0), 96, (0.05, 0.14))
    assert large.jitter == small.jitter == Jitter(0.8, 0.8, 0.8, 0.2, 0.8) and large.blur == small.blur == 0.5
    assert augmentation.simclr(32).size == 32 and augmentation.simclr().scale == (0.08, 1.0)
    assert augmentation.mocov2(64) == Augmentation(size=64)


def test_normalise_and_back():
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    normalisation = Normalisation()
    pixels = normalisation.normalise(images)
    assert pixels.dtype == torch.float32 and pixels.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(pixels, normalisation.normalise(images.float() / 255))
    torch.testing.assert_close(normalisation.denormalise(pixels) * 255, images.float())
    expected = (images[0, 1, 2, 3] / 255 - 0.456) / 0.224
    torch.testing.assert_close(pixels[0, 1, 2, 3], expected)


def test_bounds_are_those_of_black_and_white():
    normalisation = Normalisation(mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1))
    low, high = normalisation.low(torch.zeros(1)), normalisation.high(torch.zeros(1))
    torch.testing.assert_close(low.flatten(), torch.tensor([-1.0, -2.0, -3.0]))
    torch.testing.assert_close(high.flatten(), torch.tensor([1.0, 3.0, 7.0]))
    radius = normalisation.radius(0.1, torch.zeros(1))
    torch.testing.assert_close(radius.flatten(), torch.tensor([0.2, 0.5, 1.0]))


def test_constants_made_in_inference_mode_serve_training():
    normalisation = Normalisation(mean=(0.11, 0.12, 0.13), std=(0.21, 0.22, 0.23))
    with torch.inference_mode():
        normalisation.normalise(torch.zeros(1, 3, 2, 2))
    pixels = torch.zeros(1, 3, 2, 2, requires_grad=True)
    normalisation.normalise(pixels).sum().backward()
    assert pixels.grad is not None
