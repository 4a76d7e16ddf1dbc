import io
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from hardviews.data.sample import Sample
from hardviews.errors import UserError
from hardviews.evaluation import features
from hardviews.evaluation.features import Preprocess, embedding, extract, raw_pixels
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder
from hardviews.views.augmentation import Normalisation


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def samples(n, side=20, label=lambda i: i % 3):
    rng = np.random.default_rng(0)
    return [Sample(i, i, f"key{i}", png(rng.integers(0, 256, (side, side, 3), np.uint8)), label(i)) for i in range(n)]


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
    monkeypatch.setattr(features, "_resized_crop", lambda *_: pytest.fail("it was cropped first"))
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
        monkeypatch.setattr(features, "_LONGEST", 1e9)
        whole = preprocess(png(pixels)).int()
        monkeypatch.setattr(features, "_LONGEST", 0)
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


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_features_come_in_the_order_of_the_index(workers, batch_size):
    given = samples(23)
    expected = torch.stack([raw_pixels(Preprocess(20, 20)(s.data)[None])[0] for s in given])
    shuffled = [given[i] for i in torch.randperm(23, generator=torch.Generator().manual_seed(0))]
    got = extract(iter(shuffled), 23, raw_pixels, Preprocess(20, 20), batch_size=batch_size, workers=workers)
    assert torch.equal(got.values_ND, expected)
    assert got.labels_N.tolist() == [s.label for s in given]


def test_raw_pixels_are_small():
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    assert raw_pixels(images).shape == (2, 3 * 32 * 32)
    assert raw_pixels(images).mean() == pytest.approx(images.float().mean().item() / 255, abs=1e-5)


def test_untrained_encoder_has_other_weights_and_leaves_the_random_state_alone():
    torch.manual_seed(0)
    encoder = Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 32).eval()
    digest, state = encoder.digest, torch.get_rng_state()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    a, b, c = (embedding("untrained", encoder, seed)(images) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert not torch.equal(a, encoder.embed(images))
    assert encoder.digest == digest and torch.equal(torch.get_rng_state(), state)


def test_unlabelled_and_broken_images_are_named():
    with pytest.raises(UserError, match="'key3'"):
        extract(samples(5, label=lambda i: -1 if i == 3 else 0), 5, raw_pixels, Preprocess(20, 20))
    broken = samples(5)
    broken[2] = replace(broken[2], data=b"no image")
    with pytest.raises(UserError, match=r"'key2' cannot be decoded"):
        extract(broken, 5, raw_pixels, Preprocess(20, 20))
    with pytest.raises(UserError, match="empty"):
        extract([], 0, raw_pixels, Preprocess(20, 20))


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(UserError, match="diverged"):
        extract(samples(3), 3, lambda x: raw_pixels(x) * float("nan"), Preprocess(20, 20))


def test_only_a_few_results_wait(monkeypatch):
    """A slow encoder must not make the whole dataset wait in memory."""
    taken = 0

    def source():
        nonlocal taken
        for sample in samples(1) * 1000:
            taken += 1
            yield sample

    seen = []

    def embed(images):
        seen.append(taken)
        return raw_pixels(images)

    extract(source(), 1000, embed, Preprocess(20, 20), batch_size=10, workers=2)
    assert max(ahead - 10 * (i + 1) for i, ahead in enumerate(seen)) <= 64 * 2 + 10
