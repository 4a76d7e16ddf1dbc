"""An evaluation gives the same features, choices and scores on one and on two processes, bit for bit."""

import pytest
import torch

from hardviews.data.pack import pack
from tests.distributed import evaluation
from tests.evaluation.test_features import Noise


@pytest.fixture
def urls(tmp_path):
    for part, count in (("train", 61), ("test", 27)):  # of which neither is a multiple of anything
        pack(Noise(count), str(tmp_path / part), shard_bytes=20_000, progress=False)
    return f"{tmp_path}/train", f"{tmp_path}/test"


def test_one_process_and_two_agree_bit_for_bit(pair, urls, tmp_path, monkeypatch):
    monkeypatch.setenv("HARDVIEWS_CACHE", "")  # put back afterwards
    alone, encoded = evaluation.evaluated(*urls, str(tmp_path / "alone"))
    assert encoded == 61 + 27
    (first, of_first), (second, of_second) = pair.run(evaluation.evaluated, *urls, str(tmp_path / "both"))
    assert of_first + of_second == encoded and 0 < of_second < of_first
    assert alone.keys() == first.keys() == second.keys() and len(alone) > 20
    for name, values in alone.items():
        assert torch.equal(values, first[name]), name
        assert torch.equal(values, second[name]), name


def test_a_mistake_that_one_process_meets_ends_both(pair, urls, tmp_path):
    first, second = pair.run(evaluation.refused, urls[0], str(tmp_path / "cache"))
    assert second == "this image is broken"
    assert first == "Evaluation: process 1 met a mistake; its message says which."
