"""Random numbers by counter: the published answers, one result everywhere, no two draws alike."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.views.random import (
    Purpose,
    beta,
    permutation_in_groups,
    philox,
    uniform,
    uniform_like,
    words,
)

SEEDS = st.integers(-(2**63), 2**64 - 1)
EPOCHS = st.integers(0, 2**24 - 1)
POSITIONS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9)
STREAMS = st.integers(0, 2**32 - 1)

# Random123's kat_vectors: philox4x32, 10 rounds.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
@pytest.mark.parametrize("make", [np.array, torch.tensor])
@pytest.mark.filterwarnings("error")
def test_philox_gives_the_published_answers(make, counter, key, answer):
    drawn = philox(make(counter), make(key))
    assert " ".join(f"{int(word):08x}" for word in drawn) == answer


@settings(deadline=None)
@given(SEEDS, st.sampled_from(Purpose), EPOCHS, POSITIONS, STREAMS, st.integers(0, 23))
@pytest.mark.filterwarnings("error")
def test_numpy_and_torch_agree_bit_for_bit(seed, purpose, epoch, positions, stream, n):
    by_numpy = uniform(seed, purpose, epoch, np.array(positions), stream, n)
    by_torch = uniform(seed, purpose, epoch, torch.tensor(positions), stream, n)
    assert by_numpy.shape == (len(positions), n)
    assert by_numpy.dtype == np.float64 and by_torch.dtype == torch.float64
    np.testing.assert_array_equal(by_numpy, by_torch.numpy())
    assert ((by_numpy >= 0) & (by_numpy < 1)).all()


@settings(deadline=None)
@given(SEEDS, EPOCHS, POSITIONS, STREAMS, st.integers(1, 23), st.data())
def test_a_draw_depends_on_nothing_but_its_own_position(seed, epoch, positions, stream, n, data):
    whole = uniform(seed, Purpose.VIEW, epoch, np.array(positions), stream, n)
    row = data.draw(st.integers(0, len(positions) - 1))
    fewer = data.draw(st.integers(1, n))
    alone = uniform(seed, Purpose.VIEW, epoch, np.array(positions[row : row + 1]), stream, fewer)
    np.testing.assert_array_equal(whole[row : row + 1, :fewer], alone)


def test_a_stream_of_its_own_for_every_sample():
    positions, streams = torch.tensor([5, 5, 9]), torch.tensor([0, 7, 7])
    together = uniform(1, Purpose.MASK, 2, positions, streams, 6)
    for row in range(3):
        alone = uniform(1, Purpose.MASK, 2, positions[row : row + 1], int(streams[row]), 6)
        assert torch.equal(together[row : row + 1], alone)


def test_no_two_draws_share_their_numbers():
    drawn = [
        words(seed, purpose, epoch, np.arange(40), stream, 8)
        for seed in (0, 1, 2**32, 2**63)
        for purpose in Purpose
        for epoch in (0, 1, 2**23)
        for stream in (0, 1, 1 << 16)
    ]
    everything = np.concatenate([block.reshape(-1, 4) for block in drawn])
    assert len(np.unique(everything, axis=0)) == len(everything)


def test_uniform_is_uniform():
    drawn = uniform(3, Purpose.VIEW, 1, np.arange(5000), 2, 8)
    assert scipy.stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    correlation = np.corrcoef(drawn.T)[np.triu_indices(8, 1)]
    assert np.abs(correlation).max() < 0.06


def test_noise_of_a_pixel_batch_is_per_sample():
    pixels = torch.zeros(3, 2, 5, 7).contiguous(memory_format=torch.channels_last)
    noise = uniform_like(pixels, 3, Purpose.ATTACK, 1, torch.tensor([4, 8, 4]), 9)
    assert noise.shape == pixels.shape and noise.dtype == torch.float32
    assert torch.equal(noise[0], noise[2]) and not torch.equal(noise[0], noise[1])
    alone = uniform_like(pixels[:1], 3, Purpose.ATTACK, 1, torch.tensor([8]), 9)
    assert torch.equal(alone[0], noise[1])
    assert noise.min() >= 0 and noise.max() < 1
    assert len(noise[0].unique()) == noise[0].numel()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.sampled_from([1, 2, 8, 32]), st.integers(0, 1000), st.randoms())
def test_partners_permute_inside_groups_wherever_the_group_is(groups, group, first, shuffler):
    position = np.arange(first * group, (first + groups) * group)
    partner = permutation_in_groups(5, Purpose.PARTNER, 3, position, group)
    assert sorted(partner) == list(range(len(position)))
    np.testing.assert_array_equal(position[partner] // group, position // group)
    by_torch = permutation_in_groups(5, Purpose.PARTNER, 3, torch.from_numpy(position), group)
    np.testing.assert_array_equal(by_torch.numpy(), partner)
    # A batch that holds the last group alone, and one in another order.
    last = permutation_in_groups(5, Purpose.PARTNER, 3, position[-group:], group)
    np.testing.assert_array_equal(position[-group:][last], position[partner][-group:])
    order = np.array(shuffler.sample(range(len(position)), len(position)))
    shuffled = permutation_in_groups(5, Purpose.PARTNER, 3, position[order], group)
    np.testing.assert_array_equal(position[order][shuffled], position[partner][order])


def test_permutations_are_uniform():
    partner = permutation_in_groups(0, Purpose.PARTNER, 0, np.arange(6000), 3).reshape(-1, 3)
    local = partner - 3 * np.arange(2000)[:, None]
    _, counts = np.unique(local, axis=0, return_counts=True)
    assert len(counts) == 6 and scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_is_beta(alpha):
    drawn = beta(1, Purpose.WEIGHT, 0, np.arange(4000), alpha)
    assert scipy.stats.kstest(drawn, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    by_torch = beta(1, Purpose.WEIGHT, 0, torch.arange(4000), alpha)
    np.testing.assert_array_equal(by_torch.numpy(), drawn)


@pytest.mark.parametrize("epoch", [-1, 1 << 24])
def test_an_epoch_that_would_spill_into_the_purpose_is_refused(epoch):
    with pytest.raises(ValueError, match="epoch"):
        words(0, Purpose.VIEW, epoch, np.arange(2), 0, 4)
