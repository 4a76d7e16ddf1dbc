"""The batched renderer against the host's, sample by sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.views import augmentation as published
from hardviews.views import device, host
from hardviews.views.augmentation import Augmentation, Jitter, Normalisation
from hardviews.views.params import ORDERS, Column, draw
from hardviews.views.pixels import Crops

PLAIN = Augmentation(size=96, flip=0, jitter=Jitter(0, 0, 0, 0), grayscale=0, blur=0, solarise=0)
# Augmentation, and the mean difference from the host allowed over all photographs, of 255.
CASES = {
    "crop": (PLAIN, 0.32),
    "bicubic crop": (replace(PLAIN, interpolation="bicubic"), 0.32),
    "flip": (replace(PLAIN, flip=1), 0.32),
    "solarise": (replace(PLAIN, solarise=1), 0.32),
    "grayscale": (replace(PLAIN, grayscale=1), 0.35),
    "blur": (replace(PLAIN, blur=1), 0.35),
    "brightness": (replace(PLAIN, jitter=Jitter(0.4, 0, 0, 0, 1)), 0.45),
    "linear jitter": (replace(PLAIN, jitter=Jitter(0.8, 0.8, 0.8, 0, 1)), 0.45),
    "hue": (replace(PLAIN, jitter=Jitter(0, 0, 0, 0.5, 1)), 0.65),
    "jitter": (replace(PLAIN, jitter=Jitter(0.4, 0.4, 0.4, 0.1, 1)), 0.75),
    "mocov2": (published.mocov2(96), 0.65),
    "simclr": (published.simclr(96), 0.75),
    "dino_global2": (published.dino_global2(96), 0.65),
    "dino_local": (published.dino_local(64), 0.65),
}


def rows_for(augmentation: Augmentation, image: np.ndarray, n: int, first: int = 0) -> np.ndarray:
    height, width = image.shape[:2]
    return draw(augmentation, 1, 0, np.arange(n) + first, 0, np.full(n, height), np.full(n, width))


def canvases(image: np.ndarray, n: int) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).expand(n, -1, -1, -1)


def in_bytes(pixels: torch.Tensor, augmentation: Augmentation) -> np.ndarray:
    return augmentation.normalisation.denormalise(pixels).numpy() * 255


def rendered(image, rows, augmentation, size=None, canvas=None) -> np.ndarray:
    canvas = canvases(image, len(rows)) if canvas is None else canvas
    return in_bytes(device.render(canvas, torch.from_numpy(rows), augmentation, size), augmentation)


@pytest.mark.parametrize("name", CASES)
def test_the_picture_is_the_hosts(photographs, name):
    augmentation, tolerance = CASES[name]
    differences = []
    for number, image in enumerate(photographs):
        rows = rows_for(augmentation, image, 6, first=10 * number)
        reference = [host.render(image, row, augmentation) for row in rows]
        difference = np.abs(rendered(image, rows, augmentation) - np.stack(reference)).mean(axis=(1, 2, 3))
        # No sample may be another picture.
        assert difference.max() < 2
        differences.append(difference)
    assert np.mean(differences) < tolerance


def test_every_order_of_the_colours(photographs):
    augmentation = replace(PLAIN, jitter=Jitter(0.4, 0.4, 0.4, 0.2, 1))
    image = photographs[1]
    rows = np.repeat(rows_for(augmentation, image, 1), len(ORDERS), axis=0)
    rows[:, Column.ORDER] = np.arange(len(ORDERS))
    rows[:, Column.BRIGHTNESS : Column.HUE + 1] = 0.9, 1.3, 0.4, 0.45
    reference = np.stack([host.render(image, row, augmentation) for row in rows])
    assert np.abs(rendered(image, rows, augmentation) - reference).mean(axis=(1, 2, 3)).max() < 1.2
    # The order matters, or the test would not see a wrong one.
    assert np.abs(reference[:, None].astype(int) - reference[None]).mean(axis=(2, 3, 4)).max() > 4


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["bilinear", "bicubic"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 24),
    st.data(),
)
def test_crop_and_resize_are_torchs_antialiased_ones(interpolation, height, width, size, data):
    image = np.random.default_rng(height * 41 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    augmentation = replace(PLAIN, interpolation=interpolation, size=size)
    row = rows_for(augmentation, image, 1)
    row[0, : Column.WIDTH + 1] = top, left, h, w
    crop = canvases(image, 1)[..., top : top + h, left : left + w].double()
    expected = torch.nn.functional.interpolate(crop, size=(size, size), mode=interpolation, antialias=True)
    difference = np.abs(rendered(image, row, augmentation) - expected.clamp(0, 255).numpy())
    assert difference.max() < 0.02


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_small_images_and_blurs_wider_than_the_view(size):
    augmentation = replace(published.dino_global2(size), blur=1.0, sigma=(1.5, 2.0))
    image = np.random.default_rng(0).integers(0, 256, (8, 7, 3), dtype=np.uint8)
    rows = rows_for(augmentation, image, 20)
    reference = np.stack([host.render(image, row, augmentation) for row in rows])
    assert np.abs(rendered(image, rows, augmentation) - reference).mean() < 1


def test_images_of_different_sizes_share_a_batch_by_their_canvases(photographs):
    augmentation = published.mocov2(64)
    rows = np.concatenate([rows_for(augmentation, image, 1, first=i) for i, image in enumerate(photographs)])
    canvas = torch.stack([torch.from_numpy(host.lay(image, 320, 288)) for image in photographs])
    pictures = rendered(None, rows, augmentation, canvas=canvas)
    for image, row, picture in zip(photographs, rows, pictures, strict=True):
        assert np.abs(picture - host.render(image, row, augmentation)).mean() < 4


def test_an_image_that_fits_its_canvas_loses_nothing(photographs):
    augmentation = published.dino_global1(224)
    for image in photographs:
        height, width = image.shape[:2]
        rows = rows_for(augmentation, image, 4)
        large = torch.from_numpy(host.lay(image, height + 37, width + 11)).expand(4, -1, -1, -1)
        difference = np.abs(rendered(image, rows, augmentation, canvas=large) - rendered(image, rows, augmentation))
        assert difference.max() < 0.01


def test_what_a_small_canvas_costs_in_detail(photographs):
    """The squared differences of neighbours that views keep, of images with ImageNet's typical 375 x 500 pixels."""
    kept = {}
    for augmentation in (published.mocov2(224), published.dino_local(96)):
        plain = replace(augmentation, jitter=Jitter(0, 0, 0, 0), grayscale=0, blur=0)
        for side in (224, 320, 512):
            energies = []
            for photograph in photographs:
                image = host.lay(photograph, 375, 500).transpose(1, 2, 0)
                rows = rows_for(plain, image, 20)
                reference = np.stack([host.render(image, row, plain) for row in rows]).astype(np.float64)
                laid = torch.from_numpy(host.lay(image, side, side)).expand(20, -1, -1, -1)
                views = rendered(image, rows, plain, canvas=laid)
                energies.append([np.square(np.diff(v, axis=a)).sum() for v in (views, reference) for a in (2, 3)])
            across, along, across_whole, along_whole = np.sum(energies, axis=0)
            kept[plain.size, side] = (across + along) / (across_whole + along_whole)
    print({key: round(float(share), 2) for key, share in kept.items()})
    for size in (224, 96):
        assert kept[size, 512] == pytest.approx(1, abs=0.02)
        assert kept[size, 224] < kept[size, 320] < 0.85


def test_a_smaller_rendering_is_the_same_view(photographs):
    augmentation = published.mocov2(128)
    image = photographs[0]
    rows = rows_for(augmentation, image, 8)
    full = torch.from_numpy(rendered(image, rows, augmentation))
    shrunk = torch.nn.functional.interpolate(full, size=(64, 64), mode="bilinear", antialias=True).numpy()
    small = rendered(image, rows, augmentation, size=64)
    assert small.shape == (8, 3, 64, 64)
    assert np.abs(small - shrunk).mean() < 3
    assert np.abs(small - np.roll(shrunk, 1, axis=0)).mean() > 20


def test_blur_shrinks_with_the_rendering():
    augmentation = replace(PLAIN, size=64, blur=1, sigma=(2.0, 2.0), scale=(1, 1), ratio=(1, 1))
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255
    rows = rows_for(augmentation, image, 1)
    half = rendered(image, rows, augmentation, size=32)[0, 0, 16]
    sharp = np.repeat([0.0, 255.0], 16)
    # Sigma 1 at this size reaches 3 pixels to either side of the edge, and the resize one more.
    assert np.abs(half - sharp)[13:19].min() > 0.01
    assert np.abs(half - sharp)[:12].max() < 0.01


def test_format_and_range():
    augmentation = published.dino_global2(32)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    rows = torch.from_numpy(rows_for(augmentation, image, 30))
    pixels = device.render(canvases(image, 30), rows, augmentation)
    assert pixels.dtype == torch.float32 and pixels.is_contiguous(memory_format=torch.channels_last)
    shown = in_bytes(pixels, augmentation)
    assert shown.min() > -0.01 and shown.max() < 255.01
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(device.render(canvases(image, 30), rows, augmentation), pixels)
    alone = torch.cat([device.render(canvases(image, 1), rows[i : i + 1], augmentation) for i in range(30)])
    torch.testing.assert_close(alone, pixels, rtol=0, atol=2e-5)


def test_host_crops_are_normalised_equally():
    crops = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    normalisation = Normalisation()
    pixels = Crops(crops, normalisation).pixels()
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(pixels, normalisation.normalise(crops))
