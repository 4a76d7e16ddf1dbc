import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardviews.data.index import SAMPLE, Index
from hardviews.evaluation.held_out import held_out


def index_of(labels, contents=None, classes=None):
    """A dataset of images with these labels; equal contents are copies of an image."""
    samples = np.zeros(len(labels), SAMPLE)
    samples["label"] = labels
    samples["crc32"] = np.arange(len(labels)) * 7919 if contents is None else contents
    samples["size"] = 100
    names = tuple(map(str, range(classes or max(labels) + 1)))
    return Index("nowhere", names, (), samples, 0, "digest")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_same_samples_are_held_out_in_any_order(labels, seed, random):
    order = list(range(len(labels)))
    random.shuffle(order)
    contents = np.arange(len(labels)) * 7919
    mask = held_out(index_of(labels, contents, 5), seed)
    shuffled = held_out(index_of([labels[i] for i in order], contents[order], 5), seed)
    assert torch.equal(mask[torch.tensor(order)], shuffled)


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (2, 1), (10, 1), (50, 5), (300, 30)])
def test_every_class_gives_a_tenth_and_keeps_one(count, expected):
    labels = [0] * count + [1] * 40
    mask = held_out(index_of(labels))
    assert mask[:count].sum() == expected and mask[count:].sum() == 4


def test_large_sets_give_ten_of_each_class():
    labels = np.repeat(np.arange(1000), 300)
    mask = held_out(index_of(labels.tolist()))
    assert torch.bincount(torch.from_numpy(labels)[mask], minlength=1000).eq(10).all()


def test_copies_of_an_image_are_on_one_side():
    contents = np.arange(200) // 2  # each image twice
    mask = held_out(index_of([0] * 200, contents))
    assert torch.equal(mask[::2], mask[1::2])
    assert 0 < mask.sum() < 40


def test_another_seed_holds_out_others():
    labels = [0] * 400
    assert not torch.equal(held_out(index_of(labels), 0), held_out(index_of(labels), 1))
