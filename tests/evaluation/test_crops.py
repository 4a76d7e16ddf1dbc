"""Batches of random crops: their images, and the place of each crop."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.evaluation.features.crops import Course, Images, augmentation_of, central, crop_of, encoded
from hardviews.evaluation.features.extract import extract
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.sources import Embedding
from hardviews.evaluation.linear_protocol import Crops
from hardviews.evaluation.probes.linear_protocols import MOCO
from hardviews.views.decode import decode
from hardviews.world import ALONE
from tests.evaluation.test_features import PIXELS, Noise

SQUARE = Preprocess(16, 16)


def course(count, fitted, partial="kept", batch=8, epochs=3, steps=None, seed=0):
    protocol = replace(MOCO, partial=partial, batch=batch, epochs=epochs, steps=steps)
    counts = np.array([5] * (count // 5) + [count % 5])
    return Course(counts[counts > 0], np.array(sorted(fitted), np.int64), protocol, seed)


@st.composite
def courses(draw):
    count = draw(st.integers(2, 60))
    fitted = draw(st.sets(st.integers(0, count - 1), min_size=1))
    partial = draw(st.sampled_from(["kept", "dropped", "joined"]))
    steps = draw(st.none() | st.integers(1, 12))
    return course(
        count, fitted, partial, draw(st.integers(1, 20)), draw(st.integers(1, 4)), steps, draw(st.integers(0, 3))
    )


@given(courses())
def test_every_epoch_has_every_fitted_sample_once_and_no_other(one):
    batches = list(one.batches())
    assert len(batches) == one.steps and sum(len(batch.places_B) for batch in batches) == one.images
    seen = Counter(
        pair for batch in batches for pair in zip(batch.places_B.tolist(), batch.epochs_B.tolist(), strict=True)
    )
    assert set(seen.values()) == {1} and {place for place, _ in seen} <= set(one.rows_K.tolist())
    whole = [epoch for epoch, count in Counter(epoch for _, epoch in seen).items() if count == len(one.rows_K)]
    if one.protocol.steps is None and one.protocol.partial == "kept":
        assert len(whole) == one.protocol.epochs
    if one.protocol.partial != "kept":
        assert {len(batch.places_B) for batch in batches} == {one.batch}
    if one.protocol.partial != "joined":
        assert all(len(set(batch.epochs_B.tolist())) == 1 for batch in batches)


@given(courses(), st.data())
def test_a_training_may_begin_at_any_step(one, data):
    start = data.draw(st.integers(0, one.steps))
    whole, rest = list(one.batches())[start:], list(one.batches(start))
    for ours, theirs in zip(rest, whole, strict=True):
        assert np.array_equal(ours.places_B, theirs.places_B) and np.array_equal(ours.epochs_B, theirs.epochs_B)


def test_epochs_and_seeds_have_other_orders():
    batches = [batch.places_B.tolist() for batch in course(40, range(40), batch=40).batches()]
    assert len({tuple(places) for places in batches}) == 3 and sorted(batches[0]) == list(range(40))
    assert [batch.places_B.tolist() for batch in course(40, range(40), batch=40, seed=1).batches()] != batches


def test_a_length_in_steps_does_not_depend_on_the_data():
    assert course(40, range(40), "joined", steps=7).steps == 7
    assert course(11, range(11), "joined", batch=16, steps=7).batch == 11  # no image twice in a batch
    assert course(40, range(40), "joined", batch=16, epochs=2).steps == 5
    assert course(40, range(40), "dropped", batch=16, epochs=2).steps == 4
    assert course(40, range(40), "kept", batch=16, epochs=2).steps == 6


@pytest.fixture
def index(tmp_path):
    return pack(Noise(23), str(tmp_path / "data"), shard_bytes=20_000, progress=False)


def images(index, embedding=PIXELS, micro_batch=4, workers=2):
    return Images(index, embedding, SQUARE, micro_batch, workers)


def stream(these, one, seed=0):
    return list(encoded(these, one.batches(), one.batches(), Crops(), seed, ALONE))


def course_of(index, **options):
    protocol = replace(MOCO, batch=10, epochs=2)
    return Course(index.counts, np.arange(len(index)), replace(protocol, **options), 0)


def test_each_feature_is_that_of_the_images_own_crop(index):
    samples = {sample.index: sample for sample in Reader(index).iterate_all()}
    augmentation = augmentation_of(Crops(), 16)
    for batch, values in stream(images(index), course_of(index)):
        for place, epoch, value in zip(batch.places_B, batch.epochs_B, values, strict=True):
            crop = crop_of(samples[place].data, augmentation, 0, epoch, int(index.samples["crc32"][place]))
            assert torch.equal(value, PIXELS.embed(crop[None])[0])


def by_content(index, found):
    crc32 = index.samples["crc32"]
    return {
        (int(crc32[place]), int(epoch)): value
        for batch, values in found
        for place, epoch, value in zip(batch.places_B, batch.epochs_B, values, strict=True)
    }


def test_a_crop_does_not_depend_on_order_shards_micro_batches_or_threads(index, tmp_path):
    class Backwards(Noise):
        def read(self, i):
            return super().read(self.n - 1 - i)

    other = pack(Backwards(23), str(tmp_path / "other"), shard_bytes=10**9, progress=False)
    assert len(other.shards) == 1 < len(index.shards)
    first = by_content(index, stream(images(index), course_of(index)))
    for these, one in (
        (images(other), course_of(other)),
        (images(index, micro_batch=7, workers=1), course_of(index)),
        (images(index), course_of(index, partial="joined", batch=6)),
    ):
        found = by_content(these.index, stream(these, one))
        assert len(found) > 20 and all(torch.equal(first[key], value) for key, value in found.items())


def test_epochs_seeds_and_images_are_cropped_differently(index):
    first = by_content(index, stream(images(index), course_of(index)))
    again = by_content(index, stream(images(index), course_of(index), seed=1))
    contents = {content for content, _ in first}
    assert len(contents) == 23
    assert all(not torch.equal(first[content, 0], first[content, 1]) for content in contents)
    assert all(not torch.equal(first[key], again[key]) for key in first)


def test_crops_are_of_the_published_size_and_shape(index):
    (sample,) = [sample for sample in Reader(index).iterate_all() if sample.index == 0]
    whole = augmentation_of(Crops(scale=(1.0, 1.0), flip=0.0), 20)
    # Of a square image a crop of the whole area has the image's ratio, once the ten tries have failed or not.
    crops = torch.stack([crop_of(sample.data, whole, 0, epoch, 1) for epoch in range(20)])
    assert crops.dtype == torch.uint8 and crops.shape == (20, 3, 20, 20)
    pixels = torch.from_numpy(decode(sample.data)).permute(2, 0, 1)
    assert any(torch.equal(crop, pixels) for crop in crops)
    flipped = torch.stack(
        [crop_of(sample.data, augmentation_of(Crops((1.0, 1.0), 1.0), 20), 0, e, 1) for e in range(20)]
    )
    assert any(torch.equal(crop, pixels.flip(2)) for crop in flipped) and not torch.equal(crops, flipped)


def test_central_crops_are_those_of_test_images(index):
    places = torch.tensor([3, 7, 8, 20])
    found = central(images(index, micro_batch=3), places, ALONE)
    expected = extract(index, PIXELS, SQUARE, ALONE).rows(places)
    assert torch.equal(found.values_ND, expected.values_ND) and torch.equal(found.labels_N, expected.labels_N)


def test_each_image_is_encoded_once_for_all_heads_in_micro_batches(index):
    calls = []

    def embed(images_BCHW):
        calls.append(len(images_BCHW))
        return PIXELS.embed(images_BCHW)

    stream(images(index, Embedding("pixels", "pixels", embed)), course_of(index))
    assert calls == [4, 4, 2, 4, 4, 2, 3] * 2


def test_broken_images_are_named(index, monkeypatch):
    monkeypatch.setattr(
        Reader, "_fetch", lambda self, i, at, fetch=Reader._fetch: replace(fetch(self, i, at), data=b"")
    )
    with pytest.raises(UserError, match=r"The image 'key\d+' cannot be decoded"):
        stream(images(index), course_of(index))
