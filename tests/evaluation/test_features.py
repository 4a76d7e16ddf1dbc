import io
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.data.source import Item
from hardviews.errors import UserError
from hardviews.evaluation.features import cache as feature_cache
from hardviews.evaluation.features import extract as features
from hardviews.evaluation.features.extract import extract
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.sources import Embedding, embedding, raw_pixels
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder
from hardviews.views.augmentation import Normalisation
from hardviews.world import ALONE

PIXELS = Embedding("pixels", "pixels", raw_pixels)
WHOLE = Preprocess(20, 20)


class Noise:
    """Images of noise with labels that are not sorted."""

    classes = ("a", "b", "c")

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self):
        return self.n

    def key(self, i):
        return f"key{i}"

    def read(self, i):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "png")
        return Item(f"key{i}", stream.getvalue(), "png", i * i % 3, f"noise {i}")


@pytest.fixture
def index(tmp_path):
    return pack(Noise(23), str(tmp_path / "data"), shard_bytes=20_000, progress=False)


def counted(calls: list[int]) -> Embedding:
    def embed(images):
        calls.append(len(images))
        return raw_pixels(images)

    return Embedding("pixels", "pixels", embed)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_features_come_in_the_order_of_the_index(index, workers, batch_size):
    assert len(index.shards) > 1
    expected = torch.stack([raw_pixels(WHOLE(s.data)[None])[0] for s in Reader(index).iterate_all()])
    got = extract(index, PIXELS, WHOLE, ALONE, batch_size=batch_size, workers=workers)
    assert torch.equal(got.values_ND, expected)
    assert got.labels_N.tolist() == index.labels.tolist()


def test_features_are_computed_once(index):
    calls: list[int] = []
    first = extract(index, counted(calls), WHOLE, ALONE, batch_size=10)
    assert calls == [10, 10, 3]
    again = extract(index, counted(calls), WHOLE, ALONE, batch_size=10)
    assert calls == [10, 10, 3] and torch.equal(first.values_ND, again.values_ND)


@pytest.mark.parametrize(
    "other", [{"embedding": replace(PIXELS, digest="other")}, {"preprocess": Preprocess(22, 20)}, {"precision": "half"}]
)
def test_whatever_changes_features_has_its_own(index, other):
    calls: list[int] = []
    extract(index, counted(calls), WHOLE, ALONE)
    kind = {"embedding": counted(calls), "preprocess": WHOLE} | other
    if "embedding" in other:
        kind["embedding"] = replace(counted(calls), digest="other")
    extract(index, kind.pop("embedding"), kind.pop("preprocess"), ALONE, **kind)
    assert calls == [23, 23]


def test_a_killed_pass_goes_on_with_the_micro_batch_that_it_was_at(index):
    calls: list[int] = []

    def dying(images):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(images))
        return raw_pixels(images)

    with pytest.raises(KeyboardInterrupt):
        extract(index, Embedding("pixels", "pixels", dying), WHOLE, ALONE, batch_size=5)
    rest: list[int] = []
    got = extract(index, counted(rest), WHOLE, ALONE, batch_size=5)
    assert calls == [5, 5] and rest == [5, 5, 3]
    assert torch.equal(got.values_ND, extract(index, PIXELS, WHOLE, ALONE, batch_size=23).values_ND)


def test_damaged_features_are_computed_again(index, cache):
    whole = extract(index, PIXELS, WHOLE, ALONE, batch_size=5).values_ND.clone()
    (path,) = cache.glob("*.features")
    data = bytearray(path.read_bytes())
    data[4 * 1200 * 7 + 3] ^= 1  # a bit of the seventh row
    path.write_bytes(data)
    calls: list[int] = []
    assert torch.equal(extract(index, counted(calls), WHOLE, ALONE, batch_size=5).values_ND, whole)
    assert calls == [5]
    path.write_bytes(data[:1000])
    calls.clear()
    assert torch.equal(extract(index, counted(calls), WHOLE, ALONE, batch_size=5).values_ND, whole)
    assert sum(calls) == 23


def test_the_least_recently_used_features_give_way(index, cache, monkeypatch):
    monkeypatch.setattr(feature_cache, "LIMIT", 4 * 23 * 1200 * 2 + 100)
    monkeypatch.setattr(features, "_WIDEST", 1200)
    for digest in "abab" + "c":
        extract(index, replace(PIXELS, digest=digest), WHOLE, ALONE)
        for path in cache.glob("*.features"):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))  # every use lies a second back
    calls: list[int] = []
    extract(index, replace(counted(calls), digest="b"), WHOLE, ALONE)
    assert calls == []
    extract(index, replace(counted(calls), digest="a"), WHOLE, ALONE)
    assert calls == [23]


def test_raw_pixels_are_small():
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    assert raw_pixels(images).shape == (2, 3 * 32 * 32)
    assert raw_pixels(images).mean() == pytest.approx(images.float().mean().item() / 255, abs=1e-5)


def test_untrained_encoder_has_other_weights_and_leaves_the_random_state_alone():
    torch.manual_seed(0)
    encoder = Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 32).eval()
    digest, state = encoder.digest, torch.get_rng_state()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    maps = [embedding("untrained", encoder, seed) for seed in (1, 1, 2)]
    a, b, c = (one.embed(images) for one in maps)
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert maps[0].digest == maps[1].digest != maps[2].digest
    assert not torch.equal(a, encoder.embed(images))
    assert encoder.digest == digest and torch.equal(torch.get_rng_state(), state)


def test_broken_images_are_named(index, monkeypatch):
    monkeypatch.setattr(
        Reader, "_fetch", lambda self, i, at, fetch=Reader._fetch: replace(fetch(self, i, at), data=b"")
    )
    with pytest.raises(UserError, match=r"'key\d+' cannot be decoded"):
        extract(index, PIXELS, WHOLE, ALONE)


def test_features_that_are_not_finite_are_refused(index):
    with pytest.raises(UserError, match="diverged"):
        extract(index, Embedding("pixels", "x", lambda x: raw_pixels(x) * float("nan")), WHOLE, ALONE)


def test_only_a_few_results_wait(index, monkeypatch):
    """A slow encoder must not make the whole dataset wait in memory."""
    taken = 0

    def loaded(data):
        nonlocal taken
        taken += 1
        return WHOLE(data)

    seen = []

    def embed(images):
        seen.append(taken)
        return raw_pixels(images)

    monkeypatch.setattr(features, "AHEAD", 2)
    extract(index, Embedding("pixels", "x", embed), loaded_as(loaded), ALONE, batch_size=1, workers=2)
    assert max(ahead - (i + 1) for i, ahead in enumerate(seen)) <= 2 * 2 + 2


def loaded_as(load):
    class Loading(Preprocess):
        def __call__(self, data):
            return load(data)

    return Loading(20, 20)
