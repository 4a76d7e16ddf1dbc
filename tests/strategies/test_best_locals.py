"""The hardest local views by sorting equal those of all choices, listed."""

from dataclasses import replace

import pytest
import torch

from hardviews.errors import UserError
from hardviews.models.noise import without_noise
from hardviews.strategies.best_locals import covering, separable
from hardviews.strategies.compose import Sum
from hardviews.strategies.hard_views import HardViews
from hardviews.views.plan import Pair, Plan, Slot, candidate_pairs
from tests.laws.cases import NETWORKS, build, make_batch
from tests.strategies.test_candidates import multi_crop


@pytest.mark.parametrize("choose", ["hardest", "easiest"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("globals_", "locals_"), [(2, 5), (4, 2), (4, 6)])
def test_sorting_equals_listing(network: str, choose: str, globals_: int, locals_: int) -> None:
    listed = HardViews(globals_, local_candidates=locals_, choose=choose)  # type: ignore[arg-type]
    terms = {}
    for strategy in (listed, replace(listed, best_locals=True)):
        objective = build("toy_centre", strategy, network)
        batch = make_batch(objective)
        with without_noise(objective):
            (terms[strategy],) = objective.strategy(batch, objective)
    whole, sorted_ = (term.batch.selection for term in terms.values())
    assert whole is not None and sorted_ is not None
    assert torch.equal(whole.table[whole.choice], sorted_.table[sorted_.choice])
    chosen = [s.hardness.gather(0, s.choice[None]) for s in (whole, sorted_) if s.hardness is not None]
    torch.testing.assert_close(*chosen)
    assert not sorted_.shared
    for slot in objective.plan.slots:
        views = [term.batch.views[slot].pixels() for term in terms.values()]
        assert torch.equal(*views)


def test_it_is_harder_than_a_few_random_choices() -> None:
    hardness = []
    for strategy in (HardViews(4, local_candidates=8, limit=16), HardViews(4, local_candidates=8, best_locals=True)):
        objective = build("toy_centre", strategy)
        (term,) = objective.strategy(make_batch(objective), objective)
        selection = term.batch.selection
        assert selection is not None and selection.hardness is not None
        hardness.append(selection.hardness.amax(0))
    assert (hardness[1] >= hardness[0] - 1e-6).all()
    assert hardness[1].mean() > hardness[0].mean()


@pytest.mark.parametrize(("locals_", "slots"), [(16, 8), (8, 8), (11, 4)])
def test_every_local_candidate_is_scored_under_every_choice(locals_: int, slots: int) -> None:
    plan, pairs = multi_crop(4, locals_, slots)
    fewer = plan.with_candidates({"local": slots})
    found, _ = candidate_pairs(plan.slots, pairs, covering(plan, fewer.assignments(pairs)))
    wanted = {(Slot("local", k), Slot(pool, g)) for k in range(locals_) for pool in ("even", "odd") for g in range(2)}
    assert {(pair.online, pair.target) for pair in found if pair.online.pool == "local"} == wanted


def test_local_views_that_depend_on_each_other_are_refused() -> None:
    plan, pairs = multi_crop(4, 16)
    assert separable(plan, pairs)
    assert not separable(plan, (*pairs, Pair(plan.slots[0], plan.slots[3], 1.0)))  # a local target
    assert not separable(plan, (*pairs, Pair(plan.slots[3], plan.slots[0], 1.0)))  # one slot unlike the others
    with pytest.raises(UserError, match="drop one"):
        HardViews(4, limit=3, best_locals=True)


@pytest.mark.parametrize("method", ["simclr", "simsiam", "byol"])
def test_a_method_without_local_views_refuses(method: str) -> None:
    build(method, HardViews(4))
    with pytest.raises(UserError, match=r"best_locals chooses local views, .* draws none: leave best_locals away"):
        build(method, HardViews(4, best_locals=True))


@pytest.mark.parametrize("method", ["swav", "dino", "ibot", "deepcluster"])
def test_methods_that_the_refusal_names_take_it(method: str) -> None:
    build(method, HardViews(4, best_locals=True))


def test_dependent_locals_are_refused_inside_a_composition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardviews.strategies.hard_views.separable", lambda plan, pairs: False)
    with pytest.raises(UserError, match="ToyCentre cannot train under HardViews: best_locals needs"):
        build("toy_centre", Sum((1.0, HardViews(4, best_locals=True))))


def test_plan_is_that_of_the_listing() -> None:
    plan: Plan = build("toy_centre", HardViews(4, local_candidates=5, best_locals=True)).plan
    assert [pool.candidates for pool in plan.pools] == [2, 2, 5]
