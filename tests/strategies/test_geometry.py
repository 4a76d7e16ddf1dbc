"""Hardness without colours: candidates are scored as cropped and flipped alone, and trained on with their colours."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hardviews.batch import Batch
from hardviews.methods.dino import DINO
from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.strategies.compose import Sum
from hardviews.strategies.hard_views import HardViews
from hardviews.views import device
from hardviews.views.augmentation import Augmentation, Jitter
from hardviews.views.params import Column, draw, geometry
from hardviews.views.pixels import Canvas, Crops
from tests.laws.cases import SIZE, build, make_batch
from tests.strategies.test_cost import cost_of, passes

SIDE = 4 * SIZE  # of the pictures that rows are drawn for
NEUTRAL = {Column.BRIGHTNESS: 1, Column.CONTRAST: 1, Column.SATURATION: 1}


def on_canvases(objective: Objective) -> Batch:
    """Return a batch whose views are rendered on demand."""
    batch = make_batch(objective)
    canvas = torch.randint(0, 256, (len(batch), 3, SIDE, SIDE), generator=torch.Generator().manual_seed(7)).byte()
    views = {}
    for slot, view in batch.views.items():
        assert view.rows is not None
        views[slot] = replace(view, source=Canvas(canvas, view.rows, objective.plan.pool(slot.pool).augmentation))
    return replace(batch, views=views)


def without_colours(batch: Batch, objective: Objective, pools: set[str], size: int | None = None) -> Batch:
    """Return the batch whose views of some pools are rendered by rows made by hand."""
    views = {}
    for slot, view in batch.views.items():
        assert isinstance(view.source, Canvas) and view.rows is not None
        if slot.pool in pools:
            rows = view.rows.clone()
            for column in range(Column.BRIGHTNESS, len(Column)):
                rows[:, column] = NEUTRAL.get(Column(column), 0)
            augmentation = objective.plan.pool(slot.pool).augmentation
            pixels = device.render(view.source.canvas, rows, augmentation, size)
            view = replace(view, source=Crops(pixels, view.normalisation))
        views[slot] = view
    return replace(batch, views=views)


def selection(objective: Objective, batch: Batch) -> Any:
    with without_noise(objective):
        return objective(batch, len(batch)).selecting


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize(("method", "pools"), [("simsiam", {"view"}), ("dino", {"even", "odd"}), ("moco", {"view"})])
def test_hardness_is_that_of_views_without_colours(method: str, pools: set[str], size: int | None) -> None:
    plain, exact = build(method, HardViews(4, colours=False, size=size)), build(method, HardViews(4, size=size))
    batch = on_canvases(plain)
    found = selection(plain, batch)
    wanted = selection(exact, without_colours(batch, exact, pools, size))
    torch.testing.assert_close(found.selection.hardness, wanted.selection.hardness, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.selection.choice, wanted.selection.choice)
    colourful = selection(exact, batch).selection
    assert not torch.allclose(found.selection.hardness, colourful.hardness, rtol=1e-3)
    # The trained views have their colours, and targets are made from them.
    for s, slot in enumerate(plain.plan.slots):
        view = found.views[slot]
        numbers = found.selection.table[found.selection.choice][:, s].tolist()
        for i, k in enumerate(numbers):
            source = batch.views[slot._replace(number=k)]
            assert torch.equal(view.rows[i], source.rows[i])  # type: ignore[index]
            torch.testing.assert_close(view.pixels()[i], source.pixels()[i])


def test_scored_targets_are_not_trained_on() -> None:
    """A teacher without BatchNorm holds row by row, but it saw other views."""
    shown = {}
    for colours in (True, False):
        objective = build("dino", HardViews(4, colours=colours), "vit")
        assert isinstance(objective.method, DINO)
        counted: list[int] = []
        objective.method.exported.register_forward_hook(
            lambda _, given, __, counted=counted: counted.append(len(given[0]) // 8)
        )
        selection(objective, on_canvases(objective))
        shown[colours] = sum(counted)
        told = cost_of(objective.method, HardViews(4, colours=colours, noise="training"))
        assert told.without_gradient == 4 + sum(counted)
    assert shown == {True: 4, False: 4 + 2}


def test_the_state_of_random_views_is_that_of_views_with_colours() -> None:
    """The bank of DeepCluster reads the first views: those that were scored are others."""
    objective = build("deepcluster", HardViews(4, colours=False))
    assert cost_of(objective.method, HardViews(4, colours=False)).without_gradient == 4 + 2
    batch = on_canvases(objective)
    told = build("deepcluster", HardViews(4))
    found, wanted = (made(batch, len(batch)).encoded.online for made in (objective, told))
    for slot, embedding in wanted.items():
        torch.testing.assert_close(found[slot], embedding)


def test_rows_of_geometry_keep_crop_and_flip() -> None:
    rows = draw(Augmentation(solarise=0.5), 0, 0, np.arange(40), 0, *np.full((2, 40), 300))
    for made in (geometry(rows), geometry(torch.from_numpy(rows)).numpy()):
        assert (made[:, : Column.BRIGHTNESS] == rows[:, : Column.BRIGHTNESS]).all()
        for column in range(Column.BRIGHTNESS, len(Column)):
            assert (made[:, column] == NEUTRAL.get(Column(column), 0)).all()
    assert (rows[:, Column.HUE] != 0).any(), "the rows that were given have changed"


def test_the_distribution_of_geometry_renders_the_same() -> None:
    augmentation = Augmentation(size=16, solarise=0.5, jitter=Jitter(0.8, 0.8, 0.8, 0.2))
    canvas = torch.randint(0, 256, (20, 3, 40, 40), generator=torch.Generator().manual_seed(0)).byte()
    rows = torch.from_numpy(draw(augmentation, 0, 0, np.arange(20), 0, *np.full((2, 20), 40)))
    found = Canvas(canvas, rows, augmentation).geometry().pixels()
    torch.testing.assert_close(found, device.render(canvas, geometry(rows), augmentation), rtol=1e-5, atol=1e-5)


def test_crops_without_geometry_say_so() -> None:
    crops = Crops(torch.zeros(1, 3, 4, 4), Augmentation().normalisation)
    with pytest.raises(ValueError, match="with colours alone"):
        crops.geometry()


def test_the_plan_asks_for_it_where_views_have_rivals() -> None:
    method = build("dino", HardViews(4)).method
    plan = HardViews(4, colours=False, size=12).plan(method.plan())
    assert {pool.name: pool.geometry for pool in plan.pools} == {"even": 12, "odd": 12, "local": None}
    assert all(pool.geometry is None for pool in HardViews(4, size=12).plan(method.plan()).pools)
    both = Sum((1.0, HardViews(4, colours=False, size=8)), (1.0, HardViews(6, colours=False)), (1.0, HardViews(8)))
    assert {pool.name: pool.geometry for pool in both.plan(method.plan()).pools} == {
        "even": 16,
        "odd": 16,
        "local": None,
    }
    assert both.plan(method.plan()).pool("even").candidates == 4


def test_no_view_takes_another_pass() -> None:
    objective = build("simsiam", HardViews(4, colours=False))
    counts: list[bool] = []
    objective.method.backbone.register_forward_hook(lambda module, args, out: counts.append(out.requires_grad))
    objective(on_canvases(objective), 8)
    assert counts == [False] * 4 + [True] * 2
    assert passes("simsiam", HardViews(4)) == {"forward": 4, "forward with gradient": 2, "backward": 2}
