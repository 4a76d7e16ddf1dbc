"""Which assignments a step looks at: drawn alike on all ranks, every set as likely, and never listed."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from hardviews.batch import Batch
from hardviews.clock import Clock
from hardviews.encoded import Encoded
from hardviews.errors import UserError
from hardviews.objective.objective import Objective
from hardviews.strategies.candidates import draw_ranks
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.views.augmentation import Augmentation
from hardviews.views.plan import Pair, Plan, Pool, Slot, candidate_pairs
from tests.laws import toys
from tests.laws.cases import build, make_batch, online_encodings


def clock(step: int, seed: int = 0, epoch: int = 0) -> Clock:
    return Clock(seed, epoch, step, step, 1000)


def multi_crop(globals_: int, locals_: int, slots: int = 8) -> tuple[Plan, tuple[Pair, ...]]:
    """DINO's: one even and one odd global view, small local views that only predict."""
    view = Augmentation(size=32)
    plan = Plan(
        (
            Pool("even", 1, view, candidates=globals_ // 2),
            Pool("odd", 1, view, candidates=globals_ // 2),
            Pool("local", slots, Augmentation(size=16), target=False, candidates=locals_),
        )
    )
    targets = [Slot("even", 0), Slot("odd", 0)]
    pairs = tuple(Pair(o, t, 1 / (2 * slots + 2)) for t in targets for o in plan.slots if o != t)
    return plan, pairs


@pytest.mark.parametrize(
    ("globals_", "locals_", "slots", "number"),
    [(4, 16, 8, 51_480), (4, 16, 10, 32_032), (4, 8, 8, 4), (4, 20, 10, 739_024)],
)
def test_multi_crop_has_as_many_assignments_as_published(globals_: int, locals_: int, slots: int, number: int) -> None:
    plan, pairs = multi_crop(globals_, locals_, slots)
    assert plan.count(pairs) == number


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 10**30), st.integers(1, 40), st.integers(0, 2**32 - 1), st.integers(0, 10**6))
def test_draws_are_distinct_and_below_the_total(total: int, limit: int, seed: int, step: int) -> None:
    limit = min(limit, total)
    drawn = draw_ranks(total, limit, clock(step, seed))
    assert len(set(drawn)) == len(drawn) == limit
    assert drawn == sorted(drawn) == draw_ranks(total, limit, clock(step, seed))
    assert drawn[0] >= 0 and drawn[-1] < total


def test_every_set_of_draws_is_as_likely() -> None:
    counts = Counter(tuple(draw_ranks(6, 2, clock(step))) for step in range(3000))
    assert set(counts) == set(combinations(range(6), 2))
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_draws_of_multi_crop_are_spread_evenly() -> None:
    """Each local candidate is as often among the 64 drawn of 51,480, and so is each choice of global views."""
    plan, pairs = multi_crop(4, 16)
    tables = [plan.assignments(pairs, draw_ranks(51_480, 64, clock(step))) for step in range(60)]
    rows = torch.cat(tables)
    assert len(rows.unique(dim=0)) > 0.9 * len(rows)
    locals_ = torch.bincount(rows[:, 2:].flatten(), minlength=16)
    # A candidate is in half of the choices; the deviation of its count is sqrt(n) / 2.
    assert ((locals_ - len(rows) / 2).abs() < 4 * math.sqrt(len(rows)) / 2).all()
    assert chisquare(np.bincount((rows[:, 0] * 2 + rows[:, 1]).numpy())).pvalue > 1e-3


def test_epochs_seeds_and_steps_draw_apart() -> None:
    drawn = [draw_ranks(10**6, 8, at) for at in (clock(0), clock(1), clock(0, seed=1), clock(0, epoch=1))]
    assert len({tuple(ranks) for ranks in drawn}) == 4


def test_too_many_assignments_are_refused_before_training() -> None:
    with pytest.raises(UserError, match=r"ToyCentre cannot train under HardViews: .* 312,000 assignments .* Set limit"):
        build("toy_centre", HardViews(40, local_candidates=40))
    build("toy_centre", HardViews(40, local_candidates=40, limit=100))


# Pairs of candidates


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.data())
def test_pairs_of_candidates_are_those_of_each_assignment(globals_: int, more: int, slots: int, data) -> None:  # type: ignore[no-untyped-def]
    plan, pairs = multi_crop(2 * globals_, slots + more, slots)
    pairs = (*pairs, Pair(plan.slots[0], Slot("table", 3), 1.0), Pair(plan.slots[0], plan.slots[0], 1.0, "patch"))
    total = plan.count(pairs)
    ranks = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=6))
    table = plan.assignments(pairs, ranks)
    found, within = candidate_pairs(plan.slots, pairs, table)
    assert len(set(found)) == len(found)
    met = []
    for row, places in zip(table.tolist(), within.tolist(), strict=True):
        number = {slot: Slot(slot.pool, k) for slot, k in zip(plan.slots, row, strict=True)}
        for pair, place in zip(pairs, places, strict=True):
            named = Pair(number.get(pair.online, pair.online), number.get(pair.target, pair.target), 1.0, pair.kind)
            assert found[place] == named
            met.append(named)
    assert found == list(dict.fromkeys(met)), "candidates are encoded in another order"


def test_a_combination_costs_no_loss_of_its_own() -> None:
    """Of 4 global and 16 local candidates there are at most 8 + 64 pairs, however many choices are looked at."""
    plan, pairs = multi_crop(4, 16)
    table = plan.assignments(pairs, draw_ranks(51_480, 5000, clock(0)))
    found, within = candidate_pairs(plan.slots, pairs, table)
    assert len(found) == 2 * 2 * 2 + 16 * 4
    assert within.shape == (5000, len(pairs))


def test_reduction_of_many_assignments() -> None:
    """The sum of matrix entries, as the sentence says, and not more at once than one (A, B) matrix."""
    objective = build("toy_centre", Clean())
    losses = torch.randn(20, 7)
    within = torch.randint(20, (300, len(objective.pairs)))
    wanted = sum(pair.weight * losses[within[:, p]] for p, pair in enumerate(objective.pairs))
    torch.testing.assert_close(objective.reduce(losses, within), wanted)


def test_listing_is_quick() -> None:
    """Drawing and naming 128 choices of DINO's views takes milliseconds: nothing grows with 51,480."""
    plan, pairs = multi_crop(4, 16)
    candidate_pairs(plan.slots, pairs, plan.assignments(pairs, draw_ranks(51_480, 128, clock(0))))
    best = math.inf
    for step in range(5):
        began = time.process_time()
        candidate_pairs(plan.slots, pairs, plan.assignments(pairs, draw_ranks(51_480, 128, clock(step))))
        best = min(best, time.process_time() - began)
    assert best < 0.1


# Effect of a limit


class Rowwise(toys.ToyCentre):
    """Its targets hold row by row, and its state reads the first views."""

    rowwise_targets = True
    unselected_state = True


def draw_without_the_first(objective: Objective, batch: Batch) -> Batch:
    """Return the batch at a step whose draw names not every candidate, and not the first ones."""
    assert isinstance(objective.strategy, HardViews)
    for step in range(100):
        at = replace(batch, clock=replace(batch.clock, step=step))
        drawn = draw_ranks(objective.plan.count(objective.pairs), objective.strategy.limit or 0, at.clock)
        table = objective.plan.assignments(objective.pairs, drawn)
        if (table[:, 0] != 0).all() and table[:, 2:].unique().numel() < 4:
            return at
    raise AssertionError("no such step")


def test_targets_and_state_of_a_draw_that_leaves_candidates_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets of the scoring are kept if the drawn candidates have them; the first views are encoded for the state."""
    from tests.laws.cases import METHODS

    monkeypatch.setitem(METHODS, "rowwise", Rowwise)
    objective = build("rowwise", HardViews(4, local_candidates=4, limit=2), "vit").eval()
    batch = draw_without_the_first(objective, make_batch(objective))
    encode, asked = objective.method.encode, []

    def spied(batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        asked.append((len(online), len(target)))
        return encode(batch, online, target)

    monkeypatch.setattr(objective.method, "encode", spied)
    with torch.no_grad():
        losses = objective(batch, len(batch))
        fresh = encode(losses.batch, [], [Slot("even", 0), Slot("odd", 0)])
    scored, trained, first = asked
    assert scored[1] > 2 and trained == (4, 0), "the chosen targets were made once"
    assert first[0] > 0, "the first views were not all scored"
    assert set(losses.encoded.target) == set(fresh.target)
    for slot, target in losses.encoded.target.items():
        torch.testing.assert_close(target, fresh.target[slot])
    for slot, encoding in online_encodings(objective, batch).items():
        torch.testing.assert_close(losses.encoded.online[slot], encoding)
