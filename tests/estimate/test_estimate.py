"""Costs that `hardviews estimate` states, against passes that are counted, FLOPs and memory by other means."""

import gc
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode

from hardviews.cli import main
from hardviews.data.shares import share
from hardviews.errors import UserError
from hardviews.estimate.command import estimate, read_estimate
from hardviews.estimate.config import Estimate
from hardviews.estimate.fake_step import FakeTrainer
from hardviews.estimate.report import Column, Refused
from hardviews.estimate.tally import Tally
from hardviews.estimate.units import MEMORIES, TIMES, Unit, unit_for
from hardviews.estimate.ways import steps, ways
from hardviews.methods.barlowtwins import BarlowTwinsConfig
from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.vicreg import VICRegConfig
from hardviews.models.backbones import Backbone
from hardviews.models.resolution import cheap_size
from hardviews.recipes import recipe_named
from hardviews.recipes.digits import digits_simsiam
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.least_overlap import LeastOverlap
from hardviews.strategies.more_views import MoreViews
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.random_views import RandomViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.precision import Precision
from hardviews.train.recipe import Recipe, Training
from hardviews.train.trainer import build_objective
from hardviews.views.augmentation import Augmentation
from hardviews.views.pixels import Crops
from tests.laws.cases import make_batch

SAMPLES = 8


def small(strategy: Strategy | None = None) -> Recipe:
    return Recipe(
        "small",
        SimCLRConfig(hidden=16, output=8, view=Augmentation(size=32)),
        Backbone("test_resnet", small_stem=True),
        strategy or Clean(),
        Training(epochs=3, batch=32, group=8),
        precision=Precision(compute="float32"),
    )


@pytest.mark.parametrize(
    "strategy",
    [
        Clean(),
        HardViews(4),
        HardViews(4, size=16),
        HardViews(4, every=2),
        HardViews(4, colours=False),
        HardViews(4, size=16, colours=False),
        LeastOverlap(4),
        PredictedViews(4),
        RandomViews(4),
    ],
    ids=str,
)
def test_passes_are_those_that_strategies_state(strategy: Strategy) -> None:
    trainer = FakeTrainer(small(strategy), 100)
    numbers = steps(strategy)
    costs = [trainer.step(SAMPLES, number, False) for number in numbers]
    stated = strategy.passes(trainer.objective.method)
    assert sum(cost.forward for cost in costs) / len(costs) == stated.without_gradient + stated.trained
    assert sum(cost.backward for cost in costs) / len(costs) == stated.trained


def test_flops_are_those_of_a_real_step() -> None:
    recipe = small(HardViews(4, size=16))
    objective = build_objective(recipe).train()
    with FlopCounterMode(display=False) as counter:
        objective(make_batch(objective, SAMPLES), SAMPLES).total.backward()
    assert FakeTrainer(recipe, 100).step(SAMPLES, 1, False).flops * SAMPLES == counter.get_total_flops()


@pytest.mark.parametrize("config", [VICRegConfig, BarlowTwinsConfig])
def test_losses_of_a_batchs_matrices_and_their_large_heads_are_counted(config: Any) -> None:
    view = Augmentation(size=32)
    recipe = replace(small(HardViews(4, size=16)), method=config(width=64, layers=2, first=view, second=view))
    objective = build_objective(recipe).train()
    with FlopCounterMode(display=False) as counter:
        objective(make_batch(objective, SAMPLES), SAMPLES).total.backward()
    cost = FakeTrainer(recipe, 100).step(SAMPLES, 1, False)
    assert cost.flops * SAMPLES == counter.get_total_flops()
    assert cost.trained == sum(weight.numel() for weight in objective.parameters())


def test_masks_of_patches_are_counted() -> None:
    """As a real step counts them: iBOT's head looks at the masked patches alone."""
    recipe = recipe_named("digits_ibot")
    recipe = replace(recipe, strategy=Clean(), precision=Precision(compute="float32"))
    trainer = FakeTrainer(recipe, 100)
    objective = build_objective(recipe).train()
    batch, _ = trainer._batch(SAMPLES, 0)
    pixels = {slot: torch.zeros(view.source.tensor.shape, dtype=torch.uint8) for slot, view in batch.views.items()}
    views = {s: replace(view, source=Crops(pixels[s], view.normalisation)) for s, view in batch.views.items()}
    with FlopCounterMode(display=False) as counter:
        objective(replace(batch, views=views), SAMPLES).total.backward()
    assert trainer.step(SAMPLES, 0, False).flops * SAMPLES == counter.get_total_flops()


def test_masks_of_chosen_views_are_as_large_as_those_of_candidates() -> None:
    recipe = recipe_named("digits_ibot")
    plain, hard = (
        FakeTrainer(replace(recipe, strategy=strategy), 100).step(SAMPLES, 0, False)
        for strategy in (Clean(), HardViews(4))
    )
    assert 1.3 < hard.flops / plain.flops < 2


def test_passes_of_an_attack() -> None:
    """Forward: clean, attack, attacked. Backward as many: SimCLR's targets take a gradient."""
    trainer = FakeTrainer(small(Adversarial()), 100)
    cost = trainer.step(SAMPLES, 0, False)
    assert (cost.forward, cost.backward) == (2 + 2 + 2, 2 + 2 + 2)


def test_memory_is_that_of_the_tracker_of_torch() -> None:
    """Which serves networks without frozen parameters, and no attacks."""
    recipe = small()
    trainer = FakeTrainer(recipe, 100)
    own = trainer.step(64, 0, False).memory
    batch, pixels = trainer._batch(64, 0)
    for module in trainer.objective.modules():
        module._forward_hooks.clear()
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.optimizer.state.clear()
    gc.collect()
    tracker = MemTracker()
    tracker.track_external(trainer.objective, *pixels)
    with tracker:
        trainer.objective(batch, 64).total.backward()
    theirs = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    weights = sum(4 * weight.numel() for weight in trainer.objective.parameters())
    states = own - weights  # of the optimizer: after a step at most two copies of the weights
    assert theirs <= own <= theirs + 2.1 * weights and states > 0


def test_memory_counts_what_is_alive_at_once() -> None:
    with FakeTensorMode(), Tally(FakeTensor) as tally:
        first = torch.empty(1000)
        second = first * 2  # 8000 bytes live
        del first
        third = second.view(10, 100)  # the same storage
        del second
        assert tally.live == 4000 and tally.peak == 8000
        del third
    assert tally.live == 0


def test_gradients_have_a_second_copy_among_several_processes() -> None:
    trainer = FakeTrainer(small(), 100)
    gradients = 4 * sum(weight.numel() for weight in trainer.objective.parameters())
    assert trainer.step(SAMPLES, 0, True).memory - trainer.step(SAMPLES, 0, False).memory == gradients


def test_steps_are_those_of_a_period() -> None:
    assert list(steps(HardViews(4, every=3))) == [0, 1, 2]
    assert len(steps(MoreViews(5 / 3))) == 3
    assert len(steps(HardViews(4, every=1000))) == 12


@pytest.mark.parametrize(
    ("network", "own", "size"),
    [
        ("resnet50", 224, 64),
        ("resnet18", 128, 64),
        ("vit_small_patch16_224", 224, 64),
        ("vit_tiny_patch16_224", 32, 64),
    ],
)
def test_the_size_of_cheap_scoring_leaves_two_cells_or_four_patches(network: str, own: int, size: int) -> None:
    with torch.device("meta"):
        assert cheap_size(Backbone(network).build(), own) == size


def test_a_network_without_a_map_is_taken_for_one_of_stride_32() -> None:
    assert cheap_size(nn.Identity(), 224) == 64


def test_hours_follow_from_flops() -> None:
    config = Estimate("a100", gpus=4, share=0.5, images=1000)
    report = estimate(small(HardViews(4)), config)
    column = report.columns["exact HVS"]
    assert isinstance(column, Column)
    images = 3 * (1000 // 32 * 32)  # epochs of whole steps
    assert report.hours(column.cost) == pytest.approx(column.cost.flops * images / (312e12 * 0.5 * 4) / 3600)
    assert list(report.columns) == ["plain", "exact HVS", "cheap HVS", "HEXA"]
    assert report.samples == 8


@pytest.mark.parametrize(("gpus", "accumulate", "slowest"), [(8, 1, 8), (7, 1, 16), (5, 1, 16), (3, 2, 32), (4, 2, 16)])
def test_hours_are_those_of_the_slowest_gpu(gpus: int, accumulate: int, slowest: int) -> None:
    """By the shares that the data gives out: 8 groups of 8 images, in one micro-batch or in two."""
    recipe = replace(small(), training=Training(epochs=2, batch=64, group=8, accumulate=accumulate))
    report = estimate(recipe, Estimate("a100", gpus=gpus, share=0.5, images=640), ("plain",))
    shares = [share(0, 64 // accumulate, 8, rank, gpus) for rank in range(gpus)]
    assert max(last - first for first, last in shares) * accumulate == slowest == report.slowest
    column = report.columns["plain"]
    assert isinstance(column, Column)
    assert report.hours(column.cost) == pytest.approx(column.cost.flops * slowest * 20 / (312e12 * 0.5) / 3600)
    uneven = [line for line in report.text().splitlines() if line.startswith("Shares: ")]
    assert bool(uneven) == (slowest * gpus != 64)
    assert json.loads(report.json())["images_per_step_of_slowest_gpu"] == slowest


def test_an_uneven_share_is_said_with_the_fewest_gpus_that_take_as_long() -> None:
    """Of 8 groups the slowest of 7 GPUs has 2, as each of 4 GPUs has."""
    recipe = replace(small(), training=Training(epochs=2, batch=64, group=8))
    assert (
        "Shares: 8 groups of 8 images do not divide evenly among 7 GPUs. The slowest has 16 of 64 images in a step, "
        "and the time is the slowest GPU's. 4 GPUs would take as long."
    ) in estimate(recipe, Estimate(gpus=7), ("plain",)).text().splitlines()


@pytest.mark.parametrize(
    "name", ["simsiam_r50_100", "dino_vits16_100", "ibot_vits16_100", "ibot_vits16_800", "swav_r50_100"]
)
def test_cheap_hvs_is_the_choice_of_the_cheap_recipe(name: str) -> None:
    cheap = recipe_named(f"{name}_hvs_cheap")
    with torch.device("meta"):
        method = build_objective(cheap).method
    found = ways(method, cheap, 4)
    assert found["cheap HVS"] == cheap.strategy and "recipe" not in found


def test_columns_of_other_costs_have_other_names() -> None:
    recipe = small(Chain(HardViews(4, size=16, colours=False), CutMix()))
    report = estimate(recipe, Estimate(gpus=1), ("exact HVS", "recipe"))
    assert [column.strategy for column in report.columns.values()] == [
        "HardViews(4)",
        "HardViews(4, size=16, colours=False) > CutMix",
    ]


@pytest.mark.parametrize(
    ("units", "values", "unit", "texts"),
    [
        (TIMES, [4000.0, 90000.0], "hours", ["1.11", "25"]),
        (TIMES, [3600.0 * 1060], "hours", ["1060"]),
        (TIMES, [50.0, 3599.0], "minutes", ["0.833", "60"]),
        (TIMES, [0.002, 0.5], "seconds", ["0.002", "0.5"]),
        (MEMORIES, [8.25 * 2**30], "GiB", ["8.25"]),
        (MEMORIES, [22 * 2**20, 100 * 2**20], "MiB", ["22", "100"]),
        (MEMORIES, [], "GiB", []),
    ],
)
def test_units_are_those_in_which_the_largest_value_reads_well(
    units: tuple[Unit, ...], values: list[float], unit: str, texts: list[str]
) -> None:
    found = unit_for(units, values)
    assert found.name == unit and [found.text(value) for value in values] == texts


def test_a_recipe_for_the_cpu_says_that_the_table_is_for_a_gpu() -> None:
    lines = {
        device: [
            line
            for line in estimate(replace(small(), precision=Precision(device=device)), Estimate(gpus=4), ("plain",))
            .text()
            .splitlines()
            if line.startswith("Device: ")
        ]
        for device in ("cpu", "auto")
    }
    assert lines["auto"] == [] and "trains on the CPU" in lines["cpu"][0] and "4 x h100" in lines["cpu"][0]


def test_a_strategy_of_the_recipe_that_is_none_of_these_has_a_column() -> None:
    report = estimate(small(HardViews(6)), Estimate(gpus=1), ("recipe",))
    assert [column.strategy for column in report.columns.values()] == ["HardViews(6)"]


def test_shares_differ_by_the_kind_of_network() -> None:
    assert Estimate().share_for(Backbone("resnet50")) == 0.05
    assert Estimate().share_for(Backbone("vit_small_patch16_224")) == 0.09
    assert Estimate(share=0.3).share_for(Backbone("resnet50")) == 0.3


def test_a_way_that_the_method_refuses_has_a_column_that_says_so() -> None:
    recipe = replace(small(), training=Training(epochs=1, batch=8, group=1))
    report = estimate(recipe, Estimate(gpus=1))
    assert isinstance(report.columns["HEXA"], Refused)
    assert "HEXA is refused: " in report.text() and "training.group" in report.text()
    assert "training.group" in json.loads(report.json())["columns"]["HEXA"]["refused"]


def test_a_recipe_that_needs_more_memory_than_a_gpu_has_says_so() -> None:
    recipe = replace(digits_simsiam(), training=Training(epochs=1, batch=1 << 20))
    report = estimate(recipe, Estimate("t4", gpus=1), ("plain",))
    assert "plain does not fit the 16 GB of a GPU" in report.text()


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["estimate", "digits_simsiam", "--gpu", "l4", "--gpus", "1", "--images", "1797"])
    table = capsys.readouterr().out
    for label in ("forward passes", "GFLOP per image", "memory of a GPU, MiB", "\nseconds ", "There is no cheap HVS"):
        assert label in table


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    main(["estimate", "digits_simsiam", "--gpus", "1", "--images", "1797", "--json"])
    read = json.loads(capsys.readouterr().out)
    assert read["images"] == 1797 and read["columns"]["plain"]["forward_passes_per_image"] == 2


def test_settings_of_the_recipe_count() -> None:
    config, recipe = read_estimate(["digits", "--training.epochs", "7", "--gpus", "2"])
    assert recipe.training.epochs == 7 and config.gpus == 2
    assert recipe == replace(recipe_named("digits"), training=recipe.training)


@pytest.mark.parametrize("compiled", [True, False])
def test_compilation_is_not_counted_and_the_report_says_so(compiled: bool) -> None:
    config, recipe = read_estimate(["digits", *(["--training.compile"] if compiled else [])])
    report = estimate(recipe, config, only=["plain"])
    assert report.columns == estimate(recipe_named("digits"), config, only=["plain"]).columns
    lines = [line for line in report.text().splitlines() if "training.compile is not counted" in line]
    assert len(lines) == compiled


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits", "--gpu", "h10"], "Did you mean h100?"),
        (["digits", "--share", "2"], "--share is 2.0"),
        (["digits", "--gpus", "0"], "--gpus is 0"),
        (["digits", "--gpus", "1000"], "too few for 1000 processes"),
        (["digits", "--images", "100"], "fewer than one global batch of 256: lower --training.batch to at most 96, or"),
        (["digit"], "Did you mean digits?"),
        (["--gpus", "2", "digits"], "The recipe comes first"),
        (["digits", "--gpuz", "2"], "--gpus"),
    ],
)
def test_mistakes_are_one_paragraph(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["estimate", *words])
    said = capsys.readouterr().err
    assert end.value.code == 2 and message in said and "Traceback" not in said


def test_a_network_that_looks_at_numbers_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from hardviews.methods.simclr import SimCLR

    embed = SimCLR.embed

    def curious(self: SimCLR, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.sum().item() != 0.5
        return embed(self, pixels)

    monkeypatch.setattr(SimCLR, "embed", curious)
    with pytest.raises(UserError, match="looks at numbers"):
        FakeTrainer(small(), 100).step(SAMPLES, 0, False)
