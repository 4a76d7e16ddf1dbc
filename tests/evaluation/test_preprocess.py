import io
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from hardviews.errors import UserError
from hardviews.evaluation.features import preprocess as module
from hardviews.evaluation.features.preprocess import Preprocess


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (300, 200), (16, 16), (33, 100)])
def test_preprocess_equals_torchvision(shape):
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(pixels).resize((shape[1], shape[0]), reducing_gap=None))
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    expected = v2.CenterCrop(28)(v2.Resize(32, v2.InterpolationMode.BICUBIC, antialias=True)(image))
    got = Preprocess(32, 28)(png(pixels))
    # torchvision cuts the longer side to an integer, we round it: one pixel of shift at most.
    scale = 32 / min(shape)
    if all(int(s * scale) == round(s * scale) for s in shape):
        assert (got.int() - expected.int()).abs().max() <= 1
    assert got.shape == (3, 28, 28)


@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (16, 1), (300, 400), (400, 300), (33, 500), (50, 800), (224, 224)])
@pytest.mark.parametrize("preprocess", [Preprocess(64, 56), Preprocess(32, 32), Preprocess(256, 224)])
def test_ordinary_pictures_are_resized_as_a_whole(shape, preprocess, monkeypatch):
    """Bit for bit, up to sixteen times as long as wide."""
    monkeypatch.setattr(module, "_resized_crop", lambda *_: pytest.fail("it was cropped first"))
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    scale = preprocess.resize / min(shape)
    height, width = (max(round(side * scale), preprocess.crop) for side in shape)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    if (height, width) != shape:
        image = torch.nn.functional.interpolate(image, (height, width), mode="bicubic", antialias=True)
    top, left = (height - preprocess.crop) // 2, (width - preprocess.crop) // 2
    expected = image[0, :, top : top + preprocess.crop, left : left + preprocess.crop]
    assert torch.equal(preprocess(png(pixels)), expected)


@pytest.mark.parametrize("shape", [(1, 17), (1, 300), (300, 1), (3, 100), (7, 200), (20, 333), (300, 5200), (257, 311)])
@pytest.mark.parametrize("preprocess", [Preprocess(64, 56), Preprocess(32, 32), Preprocess(256, 224)])
def test_a_crop_before_resizing_is_that_after_it(shape, preprocess, monkeypatch):
    random = np.random.default_rng(2)
    small = Image.fromarray(random.integers(0, 256, (1 + shape[0] // 6, 1 + shape[1] // 6, 3), np.uint8))
    noise = random.integers(0, 256, (*shape, 3), np.uint8)
    for pixels in (noise, np.asarray(small.resize(shape[::-1]))):
        monkeypatch.setattr(module, "_LONGEST", 1e9)
        whole = preprocess(png(pixels)).int()
        monkeypatch.setattr(module, "_LONGEST", 0)
        cropped = preprocess(png(pixels)).int()
        assert cropped.shape == whole.shape
        assert (cropped - whole).abs().max() <= 2
        assert (cropped - whole).abs().float().mean() < 0.1


@pytest.mark.parametrize("shape", [(1, 30000), (30000, 1), (2, 65535)])
def test_a_strip_takes_little_memory(shape, monkeypatch):
    """It was resized as a whole before: 12 GB."""
    monkeypatch.setattr(torch.nn.functional, "interpolate", lambda *_, **__: pytest.fail("resized as a whole"))
    data = png(np.full((*shape, 3), 77, np.uint8))
    tracemalloc.start()
    assert (Preprocess(256, 224)(data) == 77).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


@pytest.mark.parametrize(("size", "resize", "crop"), [(224, 256, 224), (32, 32, 32), (96, 96, 96), (128, 146, 128)])
def test_usual_sizes(size, resize, crop):
    assert Preprocess.of(size) == Preprocess(resize, crop)


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(UserError, match="crop"):
        Preprocess(32, 48)


def test_sizes_of_nothing_are_not_the_usual_ones():
    for name in ("resize", "crop"):
        with pytest.raises(UserError, match=f"--{name} is 0; it must be 1 or more"):
            Preprocess.of(224, **{name: 0})
