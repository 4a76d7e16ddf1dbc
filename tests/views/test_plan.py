"""Slots, pools and assignments against brute force."""

import math
from itertools import combinations, permutations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.errors import UserError
from hardviews.views.augmentation import Augmentation
from hardviews.views.plan import Pair, Plan, Pool, Slot

VIEW = Augmentation(size=8)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Plan, tuple[Pair, ...], list[bool]]:
    """Draw pools with candidates, and pairs that make a pool ordered or not; pool 0 joins the pairs of all."""
    pools, ordered = [], []
    for i in range(draw(st.integers(1, 3))):
        slots = draw(st.integers(1, 3))
        pools.append(Pool(f"p{i}", slots, VIEW, candidates=slots + draw(st.integers(0, 3))))
        ordered.append(slots > 1 and draw(st.booleans()))
    pairs = []
    target = Slot("table", 0)
    for pool, is_ordered in zip(pools, ordered, strict=True):
        weights = [1.0 + i if is_ordered else 1.0 for i in range(pool.slots)]
        pairs += [Pair(Slot(pool.name, i), target, weight) for i, weight in enumerate(weights)]
    return Plan(tuple(pools)), tuple(draw(st.permutations(pairs))), ordered


@settings(deadline=None, max_examples=60)
@given(plans())
def test_assignments_are_all_that_differ(case: tuple[Plan, tuple[Pair, ...], list[bool]]) -> None:
    plan, pairs, ordered = case
    ways = []
    for pool, is_ordered in zip(plan.pools, ordered, strict=True):
        pick = permutations if is_ordered else combinations
        everything = list(pick(range(pool.candidates), pool.slots))
        ways.append([tuple(range(pool.slots))] if pool.candidates == pool.slots else everything)
    wanted = [sum(rows, ()) for rows in product(*ways)]
    table = plan.assignments(pairs)
    assert [tuple(row) for row in table.tolist()] == wanted, "another order would break recorded choices"
    assert plan.count(pairs) == len(wanted)
    assert table[0].tolist() == [slot.number for slot in plan.slots], "the first row is not the identity"
    some = [0, len(wanted) // 2, len(wanted) - 1]
    assert torch.equal(plan.assignments(pairs, some), table[some])


def test_counts_that_nobody_could_list() -> None:
    pool = Pool("local", 8, VIEW, candidates=200)
    pairs = tuple(Pair(Slot("local", i), Slot("table", 0), 1.0) for i in range(8))
    plan = Plan((pool,))
    assert plan.count(pairs) == math.comb(200, 8)
    assert plan.assignments(pairs, [plan.count(pairs) - 1]).tolist() == [list(range(192, 200))]


A, B, C = (Slot("v", i) for i in range(3))

ORDERED = {
    "symmetric": ((Pair(A, B, 0.5), Pair(B, A, 0.5)), False),
    "one direction": ((Pair(A, B, 1.0),), True),
    "unequal weights": ((Pair(A, B, 0.6), Pair(B, A, 0.4)), True),
    "unequal kinds": ((Pair(A, B, 0.5, "class"), Pair(B, A, 0.5, "patch")), True),
    "with themselves": ((Pair(A, A, 0.5), Pair(B, B, 0.5)), False),
    "one with itself": ((Pair(A, A, 1.0),), True),
    "to a table": ((Pair(A, Slot("table", 0), 0.5), Pair(B, Slot("table", 0), 0.5)), False),
}


@pytest.mark.parametrize("case", ORDERED)
def test_order_counts_where_pairs_have_one(case: str) -> None:
    pairs, ordered = ORDERED[case]
    plan = Plan((Pool("v", 2, VIEW, candidates=5),))
    assert plan.count(pairs) == (20 if ordered else 10)


def test_order_of_three() -> None:
    """A ring of three slots has a direction, a full graph has none."""
    plan = Plan((Pool("v", 3, VIEW, candidates=4),))
    ring = (Pair(A, B, 1.0), Pair(B, C, 1.0), Pair(C, A, 1.0))
    full = tuple(Pair(x, y, 1.0) for x, y in permutations((A, B, C), 2))
    assert plan.count(ring) == 24
    assert plan.count(full) == 4


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), min_size=1, max_size=3))
def test_more_candidates_keep_the_view_numbers(sizes: list[tuple[int, int]]) -> None:
    plan = Plan(tuple(Pool(f"p{i}", slots, VIEW) for i, (slots, _) in enumerate(sizes)))
    wider = plan.with_candidates({f"p{i}": slots + more for i, (slots, more) in enumerate(sizes)})
    assert wider.slots == plan.slots
    assert set(plan.candidates) <= set(wider.candidates)
    numbers = [wider.view_number(candidate) for candidate in wider.candidates]
    assert len(set(numbers)) == len(numbers)
    for candidate in plan.candidates:
        assert plan.view_number(candidate) == wider.view_number(candidate)
        assert wider.view_number(candidate) == int(candidate.pool[1:]) * 65536 + candidate.number


@pytest.mark.parametrize(("slots", "candidates"), [(0, 0), (2, 1), (-1, 3)])
def test_pools_without_meaning(slots: int, candidates: int) -> None:
    with pytest.raises(UserError, match=r"needs at least one|Ask for at least"):
        Pool("view", slots, VIEW, candidates=candidates)
