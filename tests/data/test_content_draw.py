"""Draws by content: the same as ever, and a different one for each purpose."""

import hashlib

import numpy as np

from hardviews.data.content_draw import hashed, lot
from hardviews.data.index import SAMPLE, Index
from hardviews.data.label_subset import Labels
from hardviews.evaluation.held_out import held_out


def index(count: int = 200) -> Index:
    samples = np.zeros(count, SAMPLE)
    samples["crc32"], samples["size"] = np.arange(count) * 7919, 100
    samples["label"] = np.arange(count) % 2
    return Index("nowhere", ("a", "b"), (), samples, 0, "digest")


def test_lots_are_those_of_earlier_versions():
    """Results that were published name seeds: another hash would draw other images."""
    row = index().samples[3]

    def expected(text: str) -> bytes:
        return hashlib.blake2b(text.encode(), digest_size=8).digest()

    assert lot("held out", 5, row) == expected("5 23757 100")
    assert lot("labelled", 5, row) == expected("5 label 23757 100")
    assert hashed(5, "class 1") == expected("5 class 1")


def test_images_with_labels_are_not_those_held_out():
    """A tenth drawn for labels overlaps the tenth held out as two independent draws do, by about a tenth."""
    data = index()
    drawn = np.zeros(len(data), bool)
    drawn[Labels.read("10%").draw(data, 0)] = True
    apart = held_out(data).numpy()
    assert drawn.sum() == apart.sum() == 20
    assert (drawn & apart).sum() < 8
