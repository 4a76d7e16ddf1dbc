"""Ranges merge without a loss of content, and different uses of the samples have different digests."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hardviews.runs.ledger import MODULUS, Ledger, Range, digest, from_json

BATCH = 8


def steps(lives: list[int], per_epoch: int) -> list[Range]:
    """Steps one after the other, each lived through by the life of the same place."""
    made = []
    for step, life in enumerate(lives):
        epoch, at = divmod(step, per_epoch)
        positions = np.arange(at * BATCH, (at + 1) * BATCH)
        total = digest(epoch, positions, positions * 7 % 64)
        world = 1 + life % 3
        made.append(
            Range(life, world, epoch, at * BATCH, (at + 1) * BATCH, step + 1, step + 1, total, substituted=step % 2)
        )
    return made


lives = st.lists(st.integers(0, 3), max_size=30).map(sorted)


@given(lives, st.integers(1, 6), st.integers(0, 30))
def test_merging_keeps_positions_steps_digests_and_counts(lived: list[int], per_epoch: int, cut: int) -> None:
    made = steps(lived, per_epoch)
    ledger = Ledger()
    for entry in made[:cut]:
        ledger.add(entry)
    # A life that goes on from a checkpoint's ranges.
    ledger = Ledger(from_json(ledger.to_json()))
    for entry in made[cut:]:
        ledger.add(entry)
    merged = ledger.ranges
    for epoch in range(len(lived) // per_epoch + 1):
        mine = [entry for entry in made if entry.epoch == epoch]
        theirs = [entry for entry in merged if entry.epoch == epoch]
        assert sum(entry.digest for entry in mine) % MODULUS == sum(entry.digest for entry in theirs) % MODULUS
        assert sum(entry.substituted for entry in mine) == sum(entry.substituted for entry in theirs)
        covered = [position for entry in theirs for position in range(entry.start, entry.stop)]
        assert covered == list(range(len(mine) * BATCH))
    taken = [step for entry in merged for step in range(entry.first_step, entry.last_step + 1)]
    assert taken == list(range(1, len(lived) + 1))
    # As few as can be: one for each life's part of an epoch.
    assert len(merged) == len({(entry.life, entry.epoch) for entry in made})


@given(st.integers(0, 1000), st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), min_size=1, max_size=20))
def test_a_digest_is_that_of_the_samples_whoever_trained_which(epoch: int, samples: list[tuple[int, int]]) -> None:
    whole = digest(epoch, *_columns(samples))
    shuffled = random.Random(0).sample(samples, len(samples))
    cut = len(samples) // 2
    parts = [part for part in (shuffled[:cut], shuffled[cut:]) if part]
    assert sum(digest(epoch, *_columns(part)) for part in parts) == whole
    assert whole < len(samples) * 2**32


def test_every_single_change_changes_the_digest() -> None:
    positions, indices = np.arange(512), np.random.default_rng(0).permutation(512)
    whole = digest(3, positions, indices)
    found = {
        whole,
        digest(2, positions, indices),
        digest(3, positions + 1, indices),
        digest(3, positions[1:], indices[1:]),
    }
    for i in range(511):
        swapped = indices.copy()
        swapped[[i, i + 1]] = swapped[[i + 1, i]]
        found.add(digest(3, positions, swapped))
        repeated = indices.copy()
        repeated[i] = indices[i + 1]
        found.add(digest(3, positions, repeated))
    assert len(found) == 4 + 2 * 511


def test_sums_stay_exact_in_double_precision_for_the_largest_batches() -> None:
    assert 2**21 * (2**32 - 1) < 2**53


def _columns(samples: list[tuple[int, int]]):
    table = np.array(samples, dtype=np.int64)
    return table[:, 0], table[:, 1]
