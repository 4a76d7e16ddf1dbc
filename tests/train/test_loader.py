"""The same batches whatever makes them; the same training whatever renders them."""

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import nn

from hardviews.clock import Clock
from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.data.shares import Portion
from hardviews.methods.simsiam import SimSiam, SimSiamConfig
from hardviews.models.backbones import Backbone
from hardviews.objective.objective import Objective
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.train.loader import LoaderConfig, RawBatch, ShareDataset, load, to_batch
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import StepReport, Trainer
from hardviews.views import host
from hardviews.views.decode import decode
from hardviews.views.params import geometry
from hardviews.world import World
from tests.test_mechanism import Tiles
from tests.train.runs import BATCH, GROUP, STEPS, everything, simclr


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("photographs") / "shards"
    pack(Tiles(), str(folder))
    return str(folder)


CPU = torch.device("cpu")


def batches(recipe: Recipe, data: str, consumed: int = 0, rank: int = 0, world: int = 1) -> list[RawBatch]:
    """Return all batches of two epochs, from a place in the first one on."""
    training = recipe.training
    portion = Portion(
        seed=0,
        epoch=0,
        global_batch=training.batch,
        consumed=consumed,
        group=training.group,
        accumulate=training.accumulate,
        rank=rank,
        world=world,
    )
    plan = Trainer(recipe, World(0, 1, CPU)).objective.plan
    canvas = recipe.loader.canvas if recipe.loader.on_device(CPU) else None
    return list(load(recipe.loader, ShareDataset(Reader(data), plan, portion, canvas, 2), CPU))


def equal(some: RawBatch, others: RawBatch) -> bool:
    pairs = [(some.index, others.index), (some.position, others.position)]
    for mine, theirs in ((some.rows, others.rows), (some.pixels, others.pixels)):
        assert list(mine) == list(theirs)
        pairs += [(mine[slot], theirs[slot]) for slot in mine]
    return some.stop == others.stop and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_over_an_epochs_end_and_from_its_middle(data: str, workers: int) -> None:
    recipe = simclr(accumulate=2)
    whole = batches(recipe, data)
    assert len(whole) == 2 * STEPS * 2
    assert [raw.stop for raw in whole] == [BATCH // 2 * (i + 1) for i in range(2 * STEPS)] * 2
    by_workers = replace(recipe, loader=LoaderConfig(workers=workers))
    # An odd number of micro-batches is left in the first epoch, so that workers change places at its end.
    rest = batches(by_workers, data, consumed=2 * BATCH)
    assert len(rest) == len(whole) - 4
    assert all(equal(a, b) for a, b in zip(rest, whole[4:], strict=True))
    assert not equal(rest[0], whole[3])


@pytest.mark.parametrize("renderer", ["host", "device"])
@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_ranks_join_to_the_batch_of_one(data: str, renderer: str, world: int) -> None:
    recipe = simclr(batch=20)
    recipe = replace(recipe, loader=LoaderConfig(workers=0, renderer=renderer, canvas=24))
    shares = [batches(recipe, data, rank=rank, world=world) for rank in range(world)]
    assert {len(share[0].index) for share in shares} == {8, 12} if world == 2 else {4, 8}
    for whole, *parts in zip(batches(recipe, data), *shares, strict=True):
        assert torch.equal(torch.cat([part.position for part in parts]), whole.position)
        for slot, pixels in whole.pixels.items():
            assert torch.equal(torch.cat([part.pixels[slot] for part in parts]), pixels)


# Steps


def steps(recipe: Recipe, data: str, count: int = 2) -> tuple[Trainer, list[StepReport]]:
    trainer = Trainer(recipe, World(0, 1, CPU))
    raws = iter(batches(recipe, data))
    reports = []
    for step in range(count):
        clock = Clock(0, 0, step, step * recipe.training.batch, 1000)
        reports.append(trainer.step(list(islice(raws, recipe.training.accumulate)), clock, False))
    return trainer, reports


class NormlessConfig(SimSiamConfig):
    """SimSiam whose heads have no BatchNorm: a sample's loss is its own."""

    def build(self, backbone: nn.Module, features: int) -> SimSiam:
        method = super().build(backbone, features)
        for head in (method.projector, method.predictor):
            for i, layer in enumerate(head):
                if isinstance(layer, nn.BatchNorm1d):
                    head[i] = nn.Identity()
        return method


# Hardness without colours


def first(recipe: Recipe, data: str, objective: Objective) -> tuple[RawBatch, dict[int, Any]]:
    """Return the first batch, and its images by their samples' positions."""
    training = recipe.training
    portion = Portion(seed=0, epoch=0, global_batch=training.batch, group=training.group)
    canvas = recipe.loader.canvas if recipe.loader.on_device(CPU) else None
    raw = next(iter(ShareDataset(Reader(data), objective.plan, portion, canvas, 1)))
    shares = Reader(data).iterate(portion, worker=0, workers=1, fn=lambda s: (s.position, decode(s.data)))
    assert isinstance(raw, RawBatch)
    return raw, dict(next(iter(shares)).samples)


@pytest.mark.parametrize("size", [None, 8])
def test_the_host_renders_candidates_without_colours_too(photographs: str, size: int | None) -> None:
    """At the size that they are scored at, from the rows of the views that are trained on."""
    recipe = replace(simclr(), strategy=HardViews(4, colours=False, size=size))
    objective = Trainer(recipe, World(0, 1, CPU)).objective
    augmentation = objective.plan.pool("view").augmentation
    small = replace(augmentation.geometry, size=size or augmentation.size)
    raw, images = first(recipe, photographs, objective)
    exact, _ = first(recipe, photographs, Trainer(simclr(), World(0, 1, CPU)).objective)
    assert list(raw.plain) == list(raw.pixels) == list(exact.pixels)
    assert not exact.plain
    batch = to_batch(raw, objective, Clock(0, 0, 0, 0, 1000), recipe.training.group, CPU)
    for slot, pixels in raw.plain.items():
        assert torch.equal(raw.pixels[slot], exact.pixels[slot])
        for position, shown, row in zip(raw.position.tolist(), pixels, geometry(raw.rows[slot]).numpy(), strict=True):
            assert (host.render(images[position], row, small) == shown.numpy()).all()
        seen = batch.views[slot].geometry().at(size or augmentation.size, augmentation.size)
        assert torch.equal(seen.pixels(), augmentation.normalisation.normalise(pixels))
    by_device = replace(recipe, loader=LoaderConfig(workers=0, renderer="device"))
    assert not first(by_device, photographs, objective)[0].plain


@pytest.mark.parametrize("size", [None, 16])
def test_both_renderers_choose_equally_without_colours(photographs: str, size: int | None) -> None:
    view = replace(simclr().method.view, size=32)
    method, strategy = replace(simclr().method, view=view), HardViews(4, colours=False, size=size)
    found = {}
    for renderer in ("host", "device"):
        loader = LoaderConfig(workers=0, renderer=renderer, canvas=96)  # type: ignore[arg-type]
        recipe = replace(simclr(), method=method, strategy=strategy, loader=loader)
        trainer = Trainer(recipe, World(0, 1, CPU))
        raw, _ = first(recipe, photographs, trainer.objective)
        selection = trainer.step([raw], Clock(0, 0, 0, 0, 1000), False).losses.selecting.selection
        assert selection is not None
        assert selection.hardness is not None
        found[renderer] = selection.hardness
    # The two renderers differ in the last digits, and the device renders small views from a smaller canvas.
    assert (found["host"] - found["device"]).abs().mean() < 0.08 * found["device"].std()


def test_micro_batches_add_up_to_the_batch(data: str) -> None:
    recipe = replace(
        everything(),
        method=NormlessConfig(width=32, bottleneck=8, view=simclr().method.view),
        backbone=Backbone("test_vit", image_size=16, patch_size=4),
        optimizer=Optimizer("momentum", learning_rate=1.0, momentum=0.0, weight_decay=0.0),
        schedule=Schedule(),
    )
    # Partners of a mix are drawn inside groups, which micro-batches do not cut.
    for strategy in (Clean(), recipe.strategy):
        one, whole = steps(replace(recipe, strategy=strategy), data)
        parts = replace(recipe.training, accumulate=2)
        two, halves = steps(replace(recipe, strategy=strategy, training=parts), data)
        assert [r.loss for r in halves] == pytest.approx([r.loss for r in whole], abs=1e-5)
        for a, b in zip(one.objective.parameters(), two.objective.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3)
    moved = Trainer(recipe, World(0, 1, CPU)).objective.parameters()
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(moved, one.objective.parameters(), strict=True))


def test_both_renderers_train_equally(photographs: str) -> None:
    """On pictures of the canvas's size both see the same crops; resizing, blur and hue differ in the last digits."""
    view = replace(simclr().method.view, size=32, blur=0.5, sigma=(0.1, 1.0))
    recipe = replace(simclr(), method=replace(simclr().method, view=view))
    ends = {}
    for renderer in ("host", "device"):
        loader = LoaderConfig(workers=0, renderer=renderer, canvas=96)
        ends[renderer] = steps(replace(recipe, loader=loader), photographs, 4)[1]
    host, device = ([report.loss for report in ends[renderer]] for renderer in ("host", "device"))
    assert host[0] == pytest.approx(device[0], abs=0.005)
    # Then two views that are nearly as hard as each other may change places.
    assert host == pytest.approx(device, abs=0.1)
    assert host != device


def test_bfloat16_on_a_cpu(data: str) -> None:
    # Views of 16 pixels end in a map of one, and there a stride of 2 is undefined: see `Precision`.
    recipe = everything()
    view = replace(recipe.method.view, size=32)  # type: ignore[attr-defined]
    recipe = replace(recipe, method=replace(recipe.method, view=view))  # type: ignore[call-arg]
    _, exact = steps(recipe, data)
    trainer, rough = steps(replace(recipe, precision=Precision(compute="bfloat16")), data)
    assert [r.loss for r in rough] == pytest.approx([r.loss for r in exact], abs=0.05)
    assert rough[0].loss != exact[0].loss
    assert all(p.dtype == torch.float32 for p in trainer.objective.parameters())


def test_convolutions_run_channels_last(data: str) -> None:
    trainer, (report,) = steps(simclr(), data, 1)
    first = next(m for m in trainer.objective.modules() if isinstance(m, nn.Conv2d))
    assert first.weight.is_contiguous(memory_format=torch.channels_last)
    view = next(iter(report.losses.batch.views.values()))
    assert view.pixels().is_contiguous(memory_format=torch.channels_last)
    assert report.losses.batch.group == GROUP
