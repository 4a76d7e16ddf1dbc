"""Selection: which assignments are tried, the same ones on every rank, and their record."""

from dataclasses import replace

import pytest
import torch

from hardviews.batch import Batch
from hardviews.strategies.hard_views import HardViews
from tests.laws.cases import METHODS, build, make_batch, rows_of


def table_of(objective, batch: Batch) -> list[list[int]]:  # type: ignore[no-untyped-def]
    (term,) = objective.strategy(batch, objective)
    rows: list[list[int]] = term.batch.selection.table.tolist()
    return rows


def test_limit_is_drawn_by_seed_and_step_alone() -> None:
    objective = build("toy_queue", HardViews(6, limit=5))
    whole = make_batch(objective)
    tables = {step: table_of(objective, at_step(whole, step)) for step in range(6)}
    for step, table in tables.items():
        assert len(table) == len({tuple(row) for row in table}) == 5
        # Another share of the batch, in another place: that of another rank.
        assert table_of(objective, rows_of(at_step(whole, step), slice(4, 8))) == table
        assert table_of(objective, at_step(make_batch(objective, first=40), step)) == table
    assert len({str(table) for table in tables.values()}) > 3, "the same assignments every step"
    assert table_of(objective, replace(whole, clock=replace(whole.clock, seed=1))) != tables[0]


def at_step(batch: Batch, step: int) -> Batch:
    return replace(batch, clock=replace(batch.clock, step=step))


def test_limit_reaches_every_assignment() -> None:
    objective = build("simsiam", HardViews(4, limit=2))
    batch = make_batch(objective)
    seen = {tuple(row) for step in range(30) for row in table_of(objective, at_step(batch, step))}
    assert len(seen) == 6


def test_a_limit_of_millions_lists_only_what_it_draws() -> None:
    """Multi-crop: choosing 8 of 16 local crops has 51,480 assignments, and larger ones cannot be listed."""
    objective = build("toy_centre", HardViews(40, local_candidates=40, limit=7))
    assert objective.plan.count(objective.pairs) == 20 * 20 * 780
    assert len(table_of(objective, make_batch(objective, samples=4))) == 7


@pytest.mark.parametrize(("method", "candidates", "rows"), [("simsiam", 3, 3), ("simclr", 5, 10), ("moco", 3, 6)])
def test_any_number_of_candidates_for_views_of_one_kind(method: str, candidates: int, rows: int) -> None:
    """Two slots of one augmentation choose among any number; the paper compares 2, 4 and 8."""
    objective = build(method, HardViews(candidates))
    assert len(objective.plan.candidates) == candidates
    assert len(table_of(objective, make_batch(objective))) == rows


@pytest.mark.parametrize("method", METHODS)
def test_hardest_and_easiest(method: str) -> None:
    """Chosen hardness is the column's maximum (or minimum), and no view fills two slots of a pool."""
    for choose, extreme in (("hardest", torch.amax), ("easiest", torch.amin)):
        objective = build(method, HardViews(4, choose=choose))  # type: ignore[arg-type]
        batch = make_batch(objective)
        (term,) = objective.strategy(batch, objective)
        selection = term.batch.selection
        assert selection is not None
        chosen_B = selection.hardness.gather(0, selection.choice[None])[0]
        assert torch.equal(chosen_B, extreme(selection.hardness, 0))
        assert set(selection.views) == set(objective.plan.candidates)
        for pool in objective.plan.pools:
            places = [s for s, slot in enumerate(selection.slots) if slot.pool == pool.name]
            for row in selection.table[selection.choice].tolist():
                assert len({row[s] for s in places}) == len(places)


def test_ties_keep_the_first_views() -> None:
    objective = build("simsiam", HardViews(4))
    batch = make_batch(objective)
    first = batch.views[objective.plan.slots[0]]
    batch = replace(batch, views={slot: replace(first, slot=slot) for slot in batch.views})
    (term,) = objective.strategy(batch, objective)
    assert term.batch.selection is not None
    assert (term.batch.selection.choice == 0).all()
    assert term.batch.selection.table[0].tolist() == [0, 1]


def test_parameters_and_masks_travel_with_their_view() -> None:
    objective = build("toy_masked", HardViews(4))
    batch = make_batch(objective)
    (term,) = objective.strategy(batch, objective)
    selection = term.batch.selection
    assert selection is not None
    picked_BS = selection.table[selection.choice]
    assert picked_BS.unique().numel() > 2, "the selection chose the first views alone"
    for s, slot in enumerate(objective.plan.slots):
        view = term.batch.views[slot]
        for i, k in enumerate(picked_BS[:, s].tolist()):
            source = batch.views[slot._replace(number=k)]
            assert view.mask is not None and source.mask is not None
            assert view.rows is not None and source.rows is not None
            assert torch.equal(view.mask[i], source.mask[i])
            assert torch.equal(view.rows[i], source.rows[i])
            assert torch.equal(view.pixels()[i], source.pixels()[i])


def test_autocast_keeps_the_gradient() -> None:
    """Weights that scoring casts to half precision without gradient must not serve the training pass."""
    objective = build("simsiam", HardViews(4))
    with torch.autocast("cpu", torch.bfloat16):
        losses = objective(make_batch(objective), 8)
    losses.total.backward()
    assert losses.total.dtype == torch.float32
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
