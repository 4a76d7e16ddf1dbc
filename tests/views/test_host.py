"""The host renderer against torchvision's functions with the same numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from hardviews.views import augmentation as published
from hardviews.views import host
from hardviews.views.augmentation import Augmentation, Jitter
from hardviews.views.params import ORDERS, Column, draw

PLAIN = Augmentation(size=224, flip=0, jitter=Jitter(0, 0, 0, 0), grayscale=0, blur=0, solarise=0)
# Augmentation, mean and largest difference from torchvision allowed over all photographs, of 255.
CASES = {
    "crop": (PLAIN, 0, 0),
    "bicubic crop": (replace(PLAIN, interpolation="bicubic"), 0, 0),
    "flip": (replace(PLAIN, flip=1), 0, 0),
    "solarise": (replace(PLAIN, solarise=1, threshold=100), 0, 0),
    "blur": (replace(PLAIN, blur=1), 0.1, 1),
    "grayscale": (replace(PLAIN, grayscale=1), 0.6, 1),
    "brightness": (replace(PLAIN, jitter=Jitter(0.4, 0, 0, 0, 1)), 0.6, 1),
    "contrast": (replace(PLAIN, jitter=Jitter(0, 0.4, 0, 0, 1)), 0.6, 1),
    "saturation": (replace(PLAIN, jitter=Jitter(0, 0, 0.4, 0, 1)), 0.6, 1),
    "hue": (replace(PLAIN, jitter=Jitter(0, 0, 0, 0.5, 1)), 0.6, 12),
    "jitter": (replace(PLAIN, jitter=Jitter(0.4, 0.4, 0.4, 0.1, 1)), 2.2, 255),
    "mocov2": (published.mocov2(), 2.2, 255),
    "dino_global2": (published.dino_global2(), 2.2, 255),
    "dino_local": (published.dino_local(), 2.2, 255),
    "simclr": (published.simclr(), 3.5, 255),
}
ADJUST = {
    Column.BRIGHTNESS: F.adjust_brightness,
    Column.CONTRAST: F.adjust_contrast,
    Column.SATURATION: F.adjust_saturation,
    Column.HUE: F.adjust_hue,
}


def by_torchvision(image: np.ndarray, row: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    pixels = F.resized_crop(
        torch.from_numpy(image.copy()).permute(2, 0, 1),
        *(int(row[c]) for c in (Column.TOP, Column.LEFT, Column.HEIGHT, Column.WIDTH)),
        size=[augmentation.size, augmentation.size],
        interpolation=InterpolationMode(augmentation.interpolation),
        antialias=True,
    )
    if row[Column.FLIP]:
        pixels = F.horizontal_flip(pixels)
    for operation in ORDERS[int(row[Column.ORDER])]:
        if row[operation] != (0 if operation == Column.HUE else 1):
            pixels = ADJUST[operation](pixels, float(row[operation]))
    if row[Column.GRAY]:
        pixels = F.rgb_to_grayscale(pixels, 3)
    if row[Column.SIGMA]:
        side = 2 * math.ceil(3 * float(row[Column.SIGMA])) + 1
        pixels = F.gaussian_blur(pixels, [side, side], [float(row[Column.SIGMA])] * 2)
    if row[Column.SOLARISE]:
        pixels = F.solarize(pixels, augmentation.threshold)
    return pixels.numpy()


def rows_for(augmentation: Augmentation, image: np.ndarray, n: int, first: int = 0) -> np.ndarray:
    height, width = image.shape[:2]
    return draw(augmentation, 1, 0, np.arange(n) + first, 0, np.full(n, height), np.full(n, width))


@pytest.mark.parametrize("name", CASES)
def test_the_picture_is_torchvisions(photographs, name):
    augmentation, mean, largest = CASES[name]
    differences = []
    for number, image in enumerate(photographs):
        for row in rows_for(augmentation, image, 4, first=10 * number):
            view = host.render(image, row, augmentation)
            assert view.shape == (3, augmentation.size, augmentation.size)
            assert view.dtype == np.uint8 and view.flags.c_contiguous
            differences.append(np.abs(view.astype(int) - by_torchvision(image, row, augmentation)))
    assert np.mean(differences) <= mean
    assert np.max(differences) <= largest


def test_every_operation_changes_the_picture(photographs):
    image = photographs[0]
    for name in CASES.keys() - {"crop"}:
        augmentation = CASES[name][0]
        row = rows_for(augmentation, image, 1, first=3)[0]
        plain = row.copy()
        plain[Column.FLIP :] = rows_for(PLAIN, image, 1)[0, Column.FLIP :]
        changed = host.render(image, row, augmentation).astype(int)
        unchanged = host.render(image, plain, replace(PLAIN, size=augmentation.size))
        assert np.abs(changed - unchanged).mean() > 0.1, name


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 8, 32]), st.integers(0, 10**6))
def test_small_images(height, width, size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    augmentation = replace(published.dino_global2(size), blur=1.0)
    row = rows_for(augmentation, image, 1, first=seed)[0]
    before = image.copy()
    view = host.render(image, row, augmentation)
    assert view.shape == (3, size, size)
    np.testing.assert_array_equal(view, host.render(image, row, augmentation))
    np.testing.assert_array_equal(image, before)


def test_a_whole_image_at_its_size_is_itself(photographs):
    image = photographs[0][:96, :96]
    row = rows_for(replace(PLAIN, size=96, scale=(1, 1), ratio=(1, 1)), image, 1)[0]
    view = host.render(image, row, replace(PLAIN, size=96))
    np.testing.assert_array_equal(view, image.transpose(2, 0, 1))


def test_an_image_is_laid_on_a_canvas_as_it_is_or_shrunk_in_its_proportions(photographs):
    image = np.ascontiguousarray(photographs[0][:96, :120])
    canvas = host.lay(image, 100, 160)
    assert canvas.shape == (3, 100, 160) and canvas.dtype == np.uint8 and canvas.flags.c_contiguous
    np.testing.assert_array_equal(canvas[:, :96, :120], image.transpose(2, 0, 1))
    assert not canvas[:, 96:].any() and not canvas[..., 120:].any()
    shrunk = host.lay(image, 48, 200)
    expected = F.resize(torch.from_numpy(image).permute(2, 0, 1), [48, 60], antialias=True)
    np.testing.assert_array_equal(shrunk[..., :60], expected.numpy())
    assert not shrunk[..., 60:].any()


@pytest.mark.parametrize("shape", [(1, 30000), (30000, 1), (1, 1), (3, 2000)])
def test_a_strip_gives_views_of_the_usual_size(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for augmentation in (published.mocov2(), published.dino_local()):
        rows = draw(augmentation, 0, 0, np.arange(8), 0, np.full(8, shape[0]), np.full(8, shape[1]))
        for row in rows:
            assert host.render(image, row, augmentation).shape == (3, augmentation.size, augmentation.size)
            top, left, height, width = row[: Column.WIDTH + 1]
            assert 0 <= top <= top + height <= shape[0] and 0 <= left <= left + width <= shape[1]
    canvas = host.lay(image, 64, 64)
    assert canvas.shape == (3, 64, 64) and canvas[:, 0, 0].any()
