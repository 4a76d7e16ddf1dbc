import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from hardviews.data.perceptual_hash import near, perceptual_hash

PICTURES = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]


def bits(a, b):
    return (a ^ b).bit_count()


def changed(picture, size=None, quality=None, mirror=False):
    image = Image.fromarray(picture)
    image = image.resize(size) if size else image
    if mirror:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if quality:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        image = Image.open(stream).convert("RGB")
    return np.asarray(image)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("change", [{"quality": 70}, {"size": (200, 180)}, {"size": (96, 96), "quality": 80}])
def test_copies_are_near_and_mirrored_ones_too(picture, change):
    plain, mirrored = perceptual_hash(picture)
    assert bits(plain, perceptual_hash(changed(picture, **change))[0]) <= 2
    assert bits(mirrored, perceptual_hash(changed(picture, mirror=True, **change))[0]) <= 2


def test_different_pictures_are_far():
    found = [perceptual_hash(picture)[0] for picture in PICTURES]
    assert min(bits(a, b) for number, a in enumerate(found) for b in found[:number]) > 15


WORDS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20)


@given(WORDS, WORDS, st.integers(0, 2), st.randoms(use_true_random=False))
def test_near_is_brute_force(first, second, distance, random):
    # Some are copies with up to four bits changed.
    for word in list(first)[:8]:
        for bit in random.sample(range(64), random.randint(0, 4)):
            word ^= 1 << bit
        second.append(word)
    expected = [any(bits(a, b) <= distance for b in second) for a in first]
    found = near(np.array(first, np.uint64), np.array(second, np.uint64), distance)
    assert found.tolist() == expected
