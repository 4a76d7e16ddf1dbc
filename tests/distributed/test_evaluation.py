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
    assert first == "Process 1 met a mistake; its message says which."


def test_one_process_writes_of_all_that_share_a_folder(pair, tmp_path):
    """Whatever machines they are on: nodes of one machine may share a folder, and machines may share a disk."""
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    assert pair.run(evaluation.writes, (one, one)) == [(True, 0), (False, 0)]
    assert pair.run(evaluation.writes, (one, other)) == [(True, 0), (True, 0)]


def test_no_lock_is_held_while_another_is_waited_for(pair, tmp_path):
    caches = str(tmp_path / "one"), str(tmp_path / "other")
    found = pair.run(evaluation.writes, caches, 1)
    assert [writes for writes, _ in found] == [True, True]
    assert all(tries >= 1 for _, tries in found)  # also the rank whose lock was free


def test_a_folder_that_one_process_cannot_use_ends_both(pair, tmp_path):
    (tmp_path / "file").touch()
    first, second = pair.run(evaluation.unusable, (str(tmp_path), str(tmp_path / "file")))
    assert first == "Process 1 met a mistake; its message says which."
    assert "HARDVIEWS_CACHE names another folder" in second


def test_a_sweep_on_random_crops_is_the_same_bit_for_bit_on_two_processes(pair, urls, tmp_path, monkeypatch):
    monkeypatch.setenv("HARDVIEWS_CACHE", "")  # put back afterwards
    alone, encoded = evaluation.swept(urls[0], str(tmp_path / "alone"))
    (first, of_first), (second, of_second) = pair.run(evaluation.swept, urls[0], str(tmp_path / "both"))
    assert of_first + of_second == encoded + 1  # each asks the encoder for its width
    heads = {str(number) for number in range(12)}
    assert first.keys() & heads == {str(number) for number in range(0, 12, 2)}  # each trains its share of the heads
    assert second.keys() & heads == {str(number) for number in range(1, 12, 2)}
    for found in (first, second):
        assert all(torch.equal(value, alone[name]) for name, value in found.items())
    assert (first.keys() & second.keys()) - heads == {"chosen", "bias", "choice", "scores", "peek"}


def test_a_sweep_goes_on_with_another_number_of_processes(pair, urls, tmp_path, monkeypatch):
    monkeypatch.setenv("HARDVIEWS_CACHE", "")
    alone, encoded = evaluation.swept(urls[0], str(tmp_path / "alone"))
    cache = str(tmp_path / "both")
    assert [found for found, _ in pair.run(evaluation.swept, urls[0], cache, 4)] == [{}, {}]
    resumed, rest = evaluation.swept(urls[0], cache)
    assert rest == encoded - 4 * 20
    assert resumed.keys() == alone.keys() and all(torch.equal(value, alone[name]) for name, value in resumed.items())
    assert evaluation.swept(urls[0], cache, 3) == ({}, 3 * 20 + 1)
    (first, _), _ = pair.run(evaluation.swept, urls[0], cache)
    assert all(torch.equal(value, alone[name]) for name, value in first.items())
