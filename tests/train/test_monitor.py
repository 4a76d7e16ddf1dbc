"""The monitor measures at fixed steps, moves nothing, and stops nobody."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.clock import Calendar
from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.errors import UserError
from hardviews.evaluation.features.extract import Features, Preprocess
from hardviews.evaluation.monitoring.online import online_scores
from hardviews.evaluation.monitoring.specimens import VIEWS, Specimens, choose, choose_labelled
from hardviews.health.figures import figures
from hardviews.models.encoder import load
from hardviews.runs.where import Where
from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.train.loop import pretrain
from hardviews.train.monitor import Monitor, interval
from hardviews.train.monitor_config import MonitorConfig
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import Trainer
from hardviews.views.augmentation import Augmentation
from hardviews.views.plan import Plan, Pool
from hardviews.world import World
from tests.data.helpers import Noise, flip_bit, write_dataset
from tests.laws.cases import METHODS, STRATEGIES, build, networks
from tests.train.runs import STEPS, everything, rows, simclr, train, weights

HEALTH = ("rankme", "alpha", "alpha_r2", "lidar", "uniformity", "alignment", "collapsed_dims", "spread")
ONLINE = ("online/knn_top1_k20", "online/fewshot_top1_k10")
EVERY = 3


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("labelled")
    pack(Noise(60), str(folder / "train"), shard_bytes=20_000)
    pack(Noise(31), str(folder / "test"), shard_bytes=20_000)
    return str(folder)


def monitored(recipe: Recipe, data: str | None = None, **settings: Any) -> Recipe:
    return replace(recipe, monitor=MonitorConfig(data, **({"steps": EVERY} | settings)))


def measured(output: Path) -> dict[int, dict[str, float]]:
    """Return the figures of the representation by step."""
    found = {}
    for row in rows(output):
        figures = {name: value for name, value in row.items() if name.startswith(("health/", "online/"))}
        if figures:
            assert row["step"] not in found
            found[row["step"]] = figures
    return found


def without(output: Path) -> list[dict[str, float]]:
    """Return the history without the monitor's metrics."""
    kept = [{k: v for k, v in row.items() if not k.startswith(("health/", "online/"))} for row in rows(output)]
    return [row for row in kept if set(row) != {"step", "samples"}]


# It moves nothing


@pytest.mark.parametrize("recipe", [simclr, everything], ids=lambda recipe: recipe.__name__)
def test_weights_and_metrics_are_those_without_it_bit_for_bit(
    data: str, labelled: str, untracked: Path, recipe
) -> None:
    plain = train(recipe(1), data, untracked / "plain")
    watched = train(monitored(recipe(1), labelled), data, untracked / "watched")
    assert weights(watched) == weights(plain)
    assert without(watched) == rows(plain)
    assert measured(watched) and not measured(plain)


def test_random_numbers_modes_and_state_stand_as_they_stood(data: str, labelled: str) -> None:
    trainer, monitor = made(monitored(everything(), labelled), data)
    before = {name: tensor.clone() for name, tensor in trainer.objective.state_dict().items()}
    modes = {name: module.training for name, module in trainer.objective.named_modules()}
    generator = torch.get_rng_state()
    assert monitor.measure() == monitor.measure()
    assert torch.equal(torch.get_rng_state(), generator)
    assert modes == {name: module.training for name, module in trainer.objective.named_modules()}
    for name, tensor in trainer.objective.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def made(recipe: Recipe, data: str) -> tuple[Trainer, Monitor]:
    world = World(0, 1, torch.device("cpu"))
    trainer, reader = Trainer(recipe, world), Reader(data)
    calendar = Calendar(0, recipe.training.batch, STEPS * recipe.training.batch, recipe.training.epochs)
    return trainer, Monitor(recipe.monitor, recipe.backbone, trainer.objective, reader, calendar, world)


# When


def test_it_measures_before_the_first_step_every_few_and_after_the_last(
    data: str, labelled: str, untracked: Path
) -> None:
    found = measured(train(monitored(simclr(1), labelled), data, untracked / "run"))
    assert list(found) == [0, 3, STEPS]
    wanted = {f"health/{name}" for name in HEALTH} | set(ONLINE)
    # The projector has 16 features: too few for the ranks that alpha is fitted to.
    wanted |= {f"health/projector/{name}" for name in HEALTH}
    assert all(set(figures) == wanted for figures in found.values())
    assert all(math.isfinite(value) for figures in found.values() for value in figures.values())


@pytest.mark.parametrize("dies", [(0,), (4, 4)], ids=str)
def test_a_run_that_is_killed_logs_the_same_points(data: str, labelled: str, untracked: Path, dies) -> None:
    recipe = monitored(simclr(1), labelled)
    whole = train(recipe, data, untracked / "whole")
    broken = train(recipe, data, untracked / "broken", dies)
    assert rows(broken) == rows(whole)
    assert weights(broken) == weights(whole)


def test_other_settings_of_it_go_on_with_a_run(data: str, untracked: Path) -> None:
    """They change no weight, so they need no --accept-changes."""
    assert monitored(simclr()).digest() == simclr().digest()
    train(monitored(simclr(1)), data, untracked / "run")
    train(monitored(simclr(1), steps=0), data, untracked / "run")


def test_it_can_be_switched_off(data: str, untracked: Path) -> None:
    recipe = replace(simclr(1), monitor=MonitorConfig("nowhere", steps=0))
    assert measured(train(recipe, data, untracked / "run")) == {}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(1, 200), st.integers(1, 512), st.integers(10, 20_000), st.booleans())
def test_the_interval_by_default_keeps_the_cost_of_all_measurements(epochs, steps, batch, images, choosing) -> None:
    calendar = Calendar(0, batch, batch * steps, epochs)
    view = Augmentation(size=16)
    plan = Plan((Pool("view", 2, view), Pool("local", 4, view, target=False)))
    plan = plan.with_candidates({"view": 4}) if choosing else plan
    every = interval(calendar, plan, images)
    total = steps * epochs
    measurements = 1 + total // every + (total % every > 0)
    cost, training = measurements * images, calendar.total * (10 if choosing else 6)
    assert 1 <= every <= total and measurements <= 102
    assert measurements == 2 or cost <= 0.01 * training


# Content


def test_the_figures_are_those_of_the_exported_encoder(data: str, labelled: str, untracked: Path) -> None:
    """The last point, computed again from the run's encoder by the way of the evaluation."""
    output = train(monitored(simclr(1), labelled), data, untracked / "run")
    last = measured(output)[STEPS]
    encoder, specimens = load(output), Specimens(Reader(data), simclr().method.view, 90)
    preprocess = Preprocess.of(16)

    def features(url: str, chosen: np.ndarray) -> Features:
        samples = Reader(url).read(sorted(chosen.tolist()))
        images_BCHW = torch.stack([preprocess(sample.data) for sample in samples])
        return Features(encoder.embed(images_BCHW), torch.tensor([sample.label for sample in samples]))

    images, views = specimens.place("images"), specimens.place("views")
    made = encoder.embed(specimens.pixels(range(views.start, views.stop))).unflatten(0, (-1, VIEWS))
    expected = figures(features(data, specimens.parts[0].rows).values_ND, made)
    assert images == slice(0, 90)
    for name, value in expected.items():
        assert last[f"health/{name}"] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    both = [
        features(f"{labelled}/{part}", np.arange(len(Index.load(f"{labelled}/{part}")))) for part in ("train", "test")
    ]
    for name, value in online_scores(*both, torch.device("cpu")).items():
        assert last[f"online/{name}"] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith(("toy", "supervised"))])
def test_the_projector_of_every_method_continues_the_exported_network(method: str) -> None:
    objective = build(method, STRATEGIES["clean"], networks(method)[0])
    network, head = objective.method.exported, objective.method.exported_head
    assert head is not None, "every method without labels has a projector"
    size = objective.plan.pools[0].augmentation.size
    with torch.no_grad():
        features = network.eval()(torch.zeros(2, 3, size, size))
        assert head.eval()(features).ndim == 2


def test_images_are_the_same_in_every_process_and_views_are_of_the_same_images(data: str, labelled: str) -> None:
    def specimens() -> Specimens:
        found = Specimens(Reader(data), simclr().method.view, 40)
        found.add_labelled(Reader(f"{labelled}/train"), Reader(f"{labelled}/test"), 80)
        return found

    first, second = specimens(), specimens()
    assert len(first) == 40 + 5 * VIEWS + 40 + 31
    assert [first.place(name).start for name in ("images", "views", "bank", "test")] == [0, 40, 60, 100]
    whole = first.pixels(range(len(first)))
    # In other portions, and by another process.
    parts = [second.pixels(range(k, min(k + 7, len(second)))) for k in range(0, len(second), 7)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(first.pixels([3, 50, 3]), whole[[3, 50, 3]])
    views = whole[first.place("views")].unflatten(0, (-1, VIEWS))
    assert not torch.equal(views[:, 0], views[:, 1])
    assert first.parts[1].rows[::VIEWS].tolist() == first.parts[0].rows[:5].tolist()


def test_what_memory_does_not_hold_is_read_again(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardviews.evaluation.monitoring.specimens._HELD", 3 * 3 * 16 * 16)
    specimens = Specimens(Reader(data), simclr().method.view, 10)
    assert torch.equal(specimens.pixels(range(10)), specimens.pixels(range(10)))
    assert len(specimens._kept) == 3


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 60))
def test_images_are_chosen_once_from_few_shards(tmp_path_factory, counts, images) -> None:
    index = write_dataset(str(tmp_path_factory.mktemp("set")), counts)
    chosen = choose(index, images)
    assert len(set(chosen.tolist())) == len(chosen) == min(images, len(index))
    assert set(choose(index, max(1, images // 2)).tolist()) <= set(range(len(index)))
    shards = set(index.samples["shard"][chosen].tolist())
    others = [count for number, count in enumerate(counts) if number not in shards]
    assert len(chosen) == len(index) or not others or sum(counts[s] for s in shards) < images + max(counts)


def test_labelled_images_are_balanced(labelled: str) -> None:
    index = Index.load(f"{labelled}/train")
    chosen = choose_labelled(index, np.array([0, 1]), 7)
    assert np.bincount(index.labels[chosen]).tolist() == [7, 7]


def test_of_many_classes_some_are_chosen_and_labels_have_no_gaps(tmp_path: Path) -> None:
    classes = tuple(f"class{number:02d}" for number in range(12))

    class Many(Noise):
        def read(self, i: int) -> Any:
            return replace(super().read(i), label=i % 12)

    for part, n in (("train", 300), ("test", 60)):
        pack(Many(n, side=12, classes=classes), str(tmp_path / part))
    bank, test = Reader(f"{tmp_path}/train"), Reader(f"{tmp_path}/test")
    specimens = Specimens(bank, simclr().method.view, 4)
    specimens.add_labelled(bank, test, 160)  # 80 to learn from: 20 of each of 4 classes
    labels = specimens.labels("bank")
    assert np.bincount(labels).tolist() == [20] * 4
    # The test part's labels mean the same classes.
    known = np.unique(bank.index.labels[specimens.parts[2].rows])
    assert known[specimens.labels("test")].tolist() == test.index.labels[specimens.parts[3].rows].tolist()
    assert set(specimens.labels("test").tolist()) == {0, 1, 2, 3}


# Labelled data that is not fit


def refusal(recipe: Recipe, data: str, folder: Path) -> str:
    """Return why a run is refused, and check that nothing was written."""
    with pytest.raises(UserError) as error:
        pretrain(recipe, Where(data, str(folder / "run"), str(folder / "project")))
    assert not (folder / "run").exists()
    return str(error.value)


def test_data_that_is_not_there_is_refused_before_anything_is_written(data: str, untracked: Path) -> None:
    message = refusal(monitored(simclr(), f"{untracked}/nothing"), data, untracked)
    assert "--monitor.data" in message and "`train` and `test`" in message


def test_a_part_that_is_missing_is_refused(data: str, labelled: str, untracked: Path) -> None:
    (untracked / "half").mkdir()
    (untracked / "half" / "train").symlink_to(f"{labelled}/train")
    assert "half/test" in refusal(monitored(simclr(), f"{untracked}/half"), data, untracked)


def test_data_without_labels_is_refused(data: str, untracked: Path) -> None:
    class Unlabelled(Noise):
        def read(self, i: int) -> Any:
            return replace(super().read(i), label=-1)

    for part in ("train", "test"):
        pack(Unlabelled(20 + len(part), classes=()), str(untracked / "raw" / part))
    assert "needs labels" in refusal(monitored(simclr(), f"{untracked}/raw"), data, untracked)


def test_the_training_data_as_test_data_is_refused(data: str, labelled: str, untracked: Path) -> None:
    (untracked / "own").mkdir()
    (untracked / "own" / "train").symlink_to(f"{labelled}/train")
    (untracked / "own" / "test").symlink_to(data)
    assert "is the dataset that the run trains on" in refusal(monitored(simclr(), f"{untracked}/own"), data, untracked)


@pytest.mark.parametrize("damage", ["cut", "bit"])
def test_damaged_data_is_refused(data: str, untracked: Path, damage: str) -> None:
    for part, n in (("train", 40), ("test", 21)):
        pack(Noise(n), f"{untracked}/labelled/{part}")
    (shard,) = Path(untracked, "labelled", "test").glob("*.tar")
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-1024])
    else:
        row = Index.load(f"{untracked}/labelled/test").samples[5]
        flip_bit(str(shard), int(row["offset"]) + 20)
    message = refusal(monitored(simclr(), f"{untracked}/labelled"), data, untracked)
    assert ("was cut or replaced" if damage == "cut" else "corrupt") in message


def test_an_image_that_is_lost_while_training_costs_its_figures_and_not_the_run(
    data: str, labelled: str, untracked: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A later life reads the images again."""
    recipe, original = monitored(simclr(1), labelled), Specimens.pixels

    def pixels(self: Specimens, places: Any) -> torch.Tensor:
        if self.place("test").start in places:
            raise UserError("the store is gone.")
        return original(self, places)

    plain = train(simclr(1), data, untracked / "plain")
    monkeypatch.setattr(Monitor, "load", lambda self: None)
    monkeypatch.setattr(Specimens, "pixels", pixels)
    monkeypatch.setattr("hardviews.train.monitor._BATCH", 16)
    with caplog.at_level(logging.WARNING):
        output = train(recipe, data, untracked / "run")
    assert weights(output) == weights(plain)
    assert "the store is gone" in caplog.text
    for found in measured(output).values():
        assert "health/rankme" in found and "health/lidar" in found and not set(ONLINE) & set(found)


def test_a_class_that_is_too_small_costs_few_shot_alone(
    data: str, untracked: Path, capsys: pytest.CaptureFixture
) -> None:
    for part in ("train", "test"):
        pack(Noise(9 + len(part)), f"{untracked}/few/{part}")
    found = measured(train(monitored(simclr(1), f"{untracked}/few"), data, untracked / "run"))
    assert "few-shot is not measured" in capsys.readouterr().err
    assert all(ONLINE[0] in figures and ONLINE[1] not in figures for figures in found.values())


def test_features_that_are_not_finite_have_no_figures(data: str, labelled: str) -> None:
    trainer, monitor = made(monitored(simclr(), labelled), data)
    with torch.no_grad():
        for parameter in trainer.objective.method.backbone.parameters():
            parameter.fill_(math.nan)
    assert monitor.measure() == {}


def test_only_the_first_life_reads_all_images_before_it_trains(data: str, untracked: Path, monkeypatch) -> None:
    """A life that goes on must not wait for images that it may not need for long."""
    read: list[int] = []
    monkeypatch.setattr(Monitor, "load", lambda self: read.append(1))
    train(monitored(simclr(1)), data, untracked / "run", dies=(4,))
    assert read == [1]


def test_the_settings_are_checked() -> None:
    for wrong in ({"steps": -1}, {"images": 1}, {"labelled": 79}, {"data": " "}):
        with pytest.raises(UserError, match="monitor"):
            MonitorConfig(**wrong)


def test_labelled_data_is_an_input_of_the_run_unless_it_is_trained_on(
    data: str, labelled: str, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(NullRun):
        def log_inputs(self, datasets: Any = (), models: Any = ()) -> None:
            found.extend((use.context, use.digest, use.name) for use in datasets)

    found: list[tuple[str, str, str]] = []
    monkeypatch.setattr(Run, "start", lambda *_, **__: Told("run"))
    train(monitored(simclr(1), labelled), data, untracked / "run")
    bank, test = (Index.load(f"{labelled}/{part}").digest for part in ("train", "test"))
    folder = Path(labelled).name
    assert [(context, digest) for context, digest, _ in found] == [
        *(("training", Index.load(data).digest), ("validation", bank), ("validation", test))
    ]
    assert [name for *_, name in found[1:]] == [f"{folder}/train", f"{folder}/test"]
    (untracked / "own").mkdir()
    for part, place in (("train", data), ("test", f"{labelled}/test")):
        (untracked / "own" / part).symlink_to(place)
    found.clear()
    train(monitored(simclr(1), f"{untracked}/own"), data, untracked / "again")
    assert [context for context, *_ in found] == ["training", "validation"]
    assert found[1][1] == test
