"""The controls of HVS: chance, least overlap, all assignments averaged, more random views."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from hardviews.batch import Batch, Selection
from hardviews.errors import UserError
from hardviews.objective.losses import Losses
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.least_overlap import LeastOverlap
from hardviews.strategies.more_views import MoreViews
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.random_views import RandomViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.chosen_pairs import chosen_pairs
from hardviews.train.meter import Meter
from hardviews.views.geometry import iou
from hardviews.views.pair_means import pair_means
from hardviews.views.params import Column
from hardviews.views.plan import Slot
from tests.laws.cases import METHODS, build, make_batch, rows_of, state, train_step


def selection_of(objective: Objective, batch: Batch) -> Selection:
    (term,) = objective.strategy(batch, objective)
    assert term.batch.selection is not None
    for s, slot in enumerate(objective.plan.slots):
        numbers = term.batch.selection.table[term.batch.selection.choice, s].tolist()
        for i, k in enumerate(numbers):
            assert torch.equal(term.batch.views[slot].pixels()[i], batch.views[Slot(slot.pool, k)].pixels()[i])
    return term.batch.selection


# Chance


def test_chance_takes_every_assignment_as_often() -> None:
    objective = build("simsiam", RandomViews(4))
    choices = selection_of(objective, make_batch(objective, samples=600)).choice
    counts = torch.bincount(choices, minlength=6)
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_chance_is_drawn_by_position() -> None:
    objective = build("toy_queue", RandomViews(4))
    batch = make_batch(objective, samples=64)
    whole = selection_of(objective, batch)
    assert whole.hardness is None
    part = selection_of(objective, rows_of(batch, slice(16, 48)))
    assert torch.equal(part.choice, whole.choice[16:48])
    other = replace(batch, clock=replace(batch.clock, epoch=2))
    assert not torch.equal(selection_of(objective, other).choice, whole.choice)


def test_chance_among_those_that_a_limit_draws() -> None:
    objective = build("toy_centre", RandomViews(4, local_candidates=4, limit=5))
    selection = selection_of(objective, make_batch(objective, samples=64))
    assert len(selection.table) == 5
    assert selection.choice.unique().numel() == 5


# Least overlap


def box(batch: Batch, slot: Slot, i: int) -> tuple[float, ...]:
    rows = batch.views[slot].rows
    assert rows is not None
    return tuple(rows[i, [Column.TOP, Column.LEFT, Column.HEIGHT, Column.WIDTH]].tolist())


def intersection_over_union(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    height = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    width = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return height * width / (a[2] * a[3] + b[2] * b[3] - height * width)


@pytest.mark.parametrize("strategy", [LeastOverlap(4), PredictedViews(4)], ids=str)
def test_views_of_a_method_with_one_view_are_not_compared(strategy: Strategy) -> None:
    with pytest.raises(UserError, match=r"Supervised cannot train under .*: it compares the global views.*HardViews"):
        build("supervised", strategy)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "supervised"])
def test_least_overlap_equals_brute_force(method: str) -> None:
    """The mean over the pairs of two views, or over all two global views if targets come from a table."""
    objective = build(method, LeastOverlap(4))
    batch = make_batch(objective)
    selection = selection_of(objective, batch)
    place = {slot: s for s, slot in enumerate(selection.slots)}
    joined = [(p.online, p.target) for p in objective.pairs if p.online != p.target and p.target in place]
    globals_ = [slot for slot in selection.slots if batch.views[slot].target]
    joined = joined or [(a, b) for a in globals_ for b in globals_ if a < b]
    for i in range(len(batch)):
        means = []
        for row in selection.table.tolist():
            boxes = [[box(batch, Slot(s.pool, row[place[s]]), i) for s in pair] for pair in joined]
            means.append(sum(intersection_over_union(a, b) for a, b in boxes) / len(boxes))
        assert means[int(selection.choice[i])] == pytest.approx(min(means), abs=1e-6)
    measured = chosen_pairs(selection, objective.pairs)
    assert measured is not None
    assert measured.least is None  # no loss was scored
    assert (measured.overlap.chosen <= measured.overlap.passed_over + 1e-6).all()


def test_views_without_boxes_are_refused() -> None:
    objective = build("simsiam", LeastOverlap(4))
    batch = make_batch(objective)
    batch = replace(batch, views={slot: replace(view, rows=None) for slot, view in batch.views.items()})
    with pytest.raises(UserError, match="no boxes"):
        objective.strategy(batch, objective)


# All pairs, more views


def after_a_step(method: str, strategy: Strategy) -> dict[str, torch.Tensor]:
    objective = build(method, strategy)
    train_step(objective, make_batch(objective), lr=0.0)
    return {
        name: tensor for name, tensor in state(objective).items() if "running" not in name and "batches" not in name
    }


@pytest.mark.parametrize("strategy", [AllPairs(4), MoreViews(2)], ids=["all pairs", "more views"])
@pytest.mark.parametrize("method", METHODS)
def test_state_reads_the_first_views(method: str, strategy: Strategy) -> None:
    """With weights that stand still, update writes the same as the method alone."""
    alone, averaged = after_a_step(method, Clean()), after_a_step(method, strategy)
    assert alone.keys() == averaged.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(averaged[name], tensor, msg=lambda m, n=name: f"{n}: {m}", rtol=1e-5, atol=1e-6)


def test_an_average_and_the_method_alone_share_encodings() -> None:
    objective = build("simsiam", Sum((1.0, AllPairs(4)), (1.0, Clean())))
    seen: list[int] = []
    objective.method.backbone.register_forward_hook(lambda module, args, out: seen.append(1))
    objective(make_batch(objective), 8)
    assert len(seen) == 4


@pytest.mark.parametrize("method", ["moco", "moco_symmetric", "dino", "deepcluster"])
@pytest.mark.parametrize(
    "strategy",
    [
        Sum((1.0, AllPairs(4, limit=2)), (1.0, Clean())),
        Sum((1.0, Clean()), (1.0, AllPairs(4, limit=1))),
        Sum((1.0, AllPairs(4, limit=2)), (1.0, HardViews(4, every=2))),
    ],
    ids=str,
)
def test_encodings_of_one_side_do_not_stand_for_the_other(method: str, strategy: Strategy) -> None:
    """A draw of the pair 1 -> 0 alone has encoded both views, but neither as the pair 0 -> 1 needs it."""
    objective = build(method, strategy)
    for step in range(8):
        losses = objective(make_batch(objective, first=8 * step, step=step), 8)
        assert losses.total.isfinite()


@pytest.mark.parametrize("method", ["swav", "deepcluster", "moco", "moco_symmetric", "dino"])
def test_an_average_that_leaves_the_first_views_out_trains_as_the_views_that_it_took(method: str) -> None:
    """State included: the queue, the bank and the centre read views that were encoded."""
    averaged, plain = build(method, AllPairs(6, limit=1)), build(method, Clean())
    left_out = 0
    for step in range(3):
        batch = make_batch(averaged, first=8 * step, step=step)
        (term,) = averaged.strategy(batch, averaged)
        assert term.assignments is not None
        (numbers,) = term.assignments.tolist()
        taken = {s: Slot(s.pool, k) for s, k in zip(plain.plan.slots, numbers, strict=True)}
        left_out += any(slot not in taken.values() for slot in taken)
        views = {slot: replace(batch.views[candidate], slot=slot) for slot, candidate in taken.items()}
        torch.testing.assert_close(train_step(averaged, batch), train_step(plain, replace(batch, views=views)))
        torch.testing.assert_close(state(averaged), state(plain))
    assert left_out


@pytest.mark.parametrize("after", [CutMix(), Adversarial()], ids=["mix", "attack"])
@pytest.mark.parametrize("before", [AllPairs(4), MoreViews(2), Sum((1.0, Clean()), (1.0, AllPairs(4)))], ids=str)
def test_nothing_is_hardened_after_an_average(before: Strategy, after: Strategy) -> None:
    with pytest.raises(UserError, match=r"several views of a slot at once.*Add the two with Sum"):
        Chain(before, after)
    with pytest.raises(UserError, match="several views"):
        Chain(Chain(before), after)
    Sum((1.0, before), (1.0, after))


@pytest.mark.parametrize("strategy", [RandomViews(4, every=3), LeastOverlap(4, every=3), AllPairs(4, every=3)], ids=str)
def test_steps_in_between_train_on_the_first_views(strategy: Strategy) -> None:
    objective = build("toy_queue", strategy)
    for step in (1, 2):
        batch = make_batch(objective, step=step)
        (term,) = objective.strategy(batch, objective)
        assert term.batch.selection is None and term.assignments is None
        assert term.batch.views == {slot: batch.views[slot] for slot in objective.plan.slots}


@given(st.fractions(1, 5, max_denominator=12), st.integers(0, 10**7))
def test_sets_are_spread_evenly(sets: Fraction, step: int) -> None:
    strategy = MoreViews(float(sets))
    window = [strategy.at(step + i) for i in range(sets.denominator)]
    assert sum(window) == sets * sets.denominator
    assert max(window) - min(window) <= 1


def test_sets_are_disjoint() -> None:
    objective = build("toy_centre", MoreViews(2.5))
    assert [pool.candidates for pool in objective.plan.pools] == [3, 3, 6]
    numbers = Counter[int]()
    for step in (0, 1):
        (term,) = objective.strategy(make_batch(objective, step=step), objective)
        assert term.assignments is not None
        numbers[len(term.assignments)] += 1
        for pool in objective.plan.pools:
            places = [s for s, slot in enumerate(objective.plan.slots) if slot.pool == pool.name]
            used = term.assignments[:, places].flatten().tolist()
            assert used == list(range(len(used))), "a view in two sets"
    assert numbers == {2: 1, 3: 1}


@pytest.mark.parametrize("sets", [0.5, 0, -1, float("inf"), float("nan")])
def test_sets_that_are_none(sets: float) -> None:
    with pytest.raises(UserError, match=r"^MoreViews\.sets is .*1 or more"):
        MoreViews(sets)


# Logging


@pytest.mark.parametrize(
    ("strategy", "hardness", "overlaps"),
    [
        (HardViews(4), True, True),
        (RandomViews(4), False, True),
        (LeastOverlap(4), False, True),
        (AllPairs(4), False, False),
        (MoreViews(2), False, False),
        # Whichever part of a sum chooses.
        (Sum((1.0, Clean()), (1.0, HardViews(4))), True, True),
        (Sum((1.0, Clean()), (0.5, Chain(HardViews(4), CutMix()))), True, True),
        (Sum((1.0, Clean()), (1.0, AllPairs(4))), False, False),
    ],
    ids=str,
)
def test_metrics_are_there_or_absent(strategy: Strategy, hardness: bool, overlaps: bool) -> None:
    objective = build("simsiam", strategy)
    losses: Losses = objective(make_batch(objective), 8)
    meter = Meter(torch.device("cpu"))
    meter.add_losses(losses, objective.pairs)
    logged = meter.report()
    assert "loss/clean" in logged
    assert ("hardness/chosen" in logged) == ("hardness/mean" in logged) == hardness
    of_pairs = [f"{name}_distance/{which}" for name in ("centre", "colour") for which in ("chosen", "passed_over")]
    for name in ("overlap/chosen", "overlap/passed_over", *of_pairs):
        assert (name in logged) == overlaps
    # Which pair is the hardest is known only if losses were scored.
    for name in ("overlap/hardest_is_least", "overlap/chance"):
        assert (name in logged) == (overlaps and hardness)


@pytest.mark.parametrize("choose", ["hardest", "easiest"])
def test_the_hardest_pair_is_that_of_the_losses_whichever_is_chosen(choose: Any) -> None:
    objective = build("simsiam", HardViews(4, choose=choose))
    losses: Losses = objective(make_batch(objective), 8)
    selection = losses.terms[0][0].batch.selection
    assert selection is not None and selection.hardness is not None
    (overlap_AB,) = pair_means(selection.views, selection.slots, objective.pairs, selection.table, [iou])
    expected = (overlap_AB.argmin(0) == selection.hardness.argmax(0)).float().mean()
    meter = Meter(torch.device("cpu"))
    meter.add_losses(losses, objective.pairs)
    assert meter.report()["overlap/hardest_is_least"] == pytest.approx(float(expected))


def test_choices_from_own_tables_have_no_mean_hardness() -> None:
    objective = build("toy_centre", HardViews(4, local_candidates=4, best_locals=True))
    meter = Meter(torch.device("cpu"))
    meter.add_losses(objective(make_batch(objective), 8), objective.pairs)
    logged = meter.report()
    assert "hardness/chosen" in logged
    assert not {"hardness/mean", "overlap/chosen", "centre_distance/chosen"} & set(logged)
