"""Pictures of the representation: their content, their steps, and that they change nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardviews.models.backbones import Backbone
from hardviews.runs.where import Where
from hardviews.tracking.image_store import MOST_KEYS, MOST_STEPS
from hardviews.tracking.mlflow_run import NullRun, Run
from hardviews.train.feature_pictures import (
    ATTENTION,
    COLOURS,
    NEIGHBOURS,
    RIGHT,
    SPECTRUM,
    FeaturePictures,
    _neighbours,
    pictures,
)
from hardviews.train.loop import pretrain
from hardviews.train.sight import Sight
from tests.train.runs import STEPS, simclr, train, weights
from tests.train.test_monitor import labelled, made, monitored, without

__all__ = ["labelled"]


class Kept(NullRun):
    """Remembers the pictures."""

    def __init__(self) -> None:
        super().__init__("run")
        self.pictures: dict[tuple[str, int], Any] = {}

    def log_image(self, picture: Any, key: str, step: int) -> None:
        self.pictures[key, step] = picture


def seen(recipe: Any, data: str) -> Sight:
    """Measure once, and return the record."""
    _, monitor = made(recipe, data)
    found: list[Sight] = []
    monitor.measure(found.append)
    return found[0]


def vit() -> Any:
    backbone = Backbone("test_vit", image_size=16, patch_size=4)
    return replace(simclr(1), backbone=backbone)


# When


@given(st.integers(1, 400), st.integers(1, 64), st.integers(1, 200))
def test_a_run_has_at_most_twelve_pictures_of_a_key_spread_over_it(steps, batch, every) -> None:
    total = steps * batch
    drawn = FeaturePictures(Kept(), total)
    measured = [step for step in range(steps + 1) if step % every == 0 or step == steps]
    chosen = [step for step in measured if drawn.due(step * batch, every * batch)]
    assert chosen[0] == 0 and chosen[-1] == steps and len(chosen) <= MOST_STEPS
    assert len(measured) > MOST_STEPS or len(chosen) >= min(len(measured), 2)
    gaps = np.diff(chosen)
    assert gaps.max(initial=0) <= max(2 * steps / 11, every) + every


def test_a_run_keeps_all_keys_of_views_and_features() -> None:
    """Four of each: one key more would have no room in a run."""
    assert len({NEIGHBOURS, COLOURS, ATTENTION, SPECTRUM}) + 4 == MOST_KEYS


@pytest.mark.parametrize("dies", [(), (4,)], ids=["whole", "killed"])
def test_a_run_logs_its_pictures_and_moves_nothing(
    data: str, labelled: str, untracked: Path, monkeypatch: pytest.MonkeyPatch, dies
) -> None:
    plain = train(vit(), data, untracked / "plain")
    run = Kept()
    monkeypatch.setattr(Run, "start", lambda *_, **__: run)
    watched = train(monitored(vit(), labelled), data, untracked / "run", dies)
    assert weights(watched) == weights(plain)
    steps = sorted(step for key, step in run.pictures if key == NEIGHBOURS)
    assert steps == [0, 48, 16 * STEPS]
    keys = {key for key, _ in run.pictures if key.startswith("features/")}
    assert keys == {NEIGHBOURS, COLOURS, ATTENTION, SPECTRUM}
    assert without(watched) == without(plain)


def test_a_network_without_heads_or_a_map_has_the_other_pictures(data: str) -> None:
    """The last map of a ResNet has one part for an image of 16 pixels, and four for one of 64."""
    assert set(pictures(seen(monitored(simclr()), data))) == {NEIGHBOURS, SPECTRUM}
    view = replace(simclr().method.view, size=64)
    larger = replace(simclr(), method=replace(simclr().method, view=view))
    assert set(pictures(seen(monitored(larger), data))) == {NEIGHBOURS, COLOURS, SPECTRUM}


# Content


def test_looking_moves_nothing_and_repeats_itself(data: str, labelled: str) -> None:
    sight = seen(monitored(vit(), labelled), data)
    state = {name: value.clone() for name, value in sight.encoder.state_dict().items()}
    random = torch.get_rng_state()
    first, second = ({key: draw() for key, draw in pictures(sight).items()} for _ in range(2))
    assert set(first) == {NEIGHBOURS, COLOURS, ATTENTION, SPECTRUM}
    for key in (NEIGHBOURS, COLOURS, ATTENTION):
        assert np.array_equal(np.asarray(first[key]), np.asarray(second[key])), key
        assert first[key].width <= 1600
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in sight.encoder.state_dict().items())


def rows(sight: Sight) -> list[list[Any]]:
    """Return the tiles of each row of neighbours: the query, then the others."""
    return [[*query, *others] for query, others in _neighbours(sight)[NEIGHBOURS].args[0]]


def test_neighbours_are_the_nearest_and_those_of_the_class_have_a_frame(data: str, labelled: str) -> None:
    """Against a brute force in double precision."""
    sight = seen(monitored(simclr(), labelled), data)
    unit = torch.nn.functional.normalize(sight.values_MD.double(), dim=1)
    bank = sight.specimens.place("bank")
    for query, row in zip(sight.specimens.some("test", 6), rows(sight), strict=True):
        order = (unit[bank] @ unit[query]).argsort(descending=True, stable=True)[:8] + bank.start
        assert len(row) == 9
        for tile, place in zip(row, [query, *order.tolist()], strict=True):
            pixels = sight.specimens.pixels([place])[0].permute(1, 2, 0).numpy()
            assert np.array_equal(tile.pixels, pixels)
            same = place != query and sight.label(place) == sight.label(query)
            assert tile.frame == (RIGHT if same else "")
    assert {tile.frame for row in rows(sight) for tile in row[1:]} == {"", RIGHT}, "there are both"


def test_without_labels_neighbours_are_other_images_and_have_no_frames(data: str) -> None:
    sight = seen(monitored(simclr()), data)
    for row in rows(sight):
        assert len(row) == 9 and not any(tile.frame for tile in row)
        assert not any(np.array_equal(tile.pixels, row[0].pixels) for tile in row[1:])


def test_the_images_are_the_same_at_every_step(data: str, labelled: str) -> None:
    trainer, monitor = made(monitored(simclr(), labelled), data)
    found: list[Sight] = []
    for _ in range(2):
        monitor.measure(found.append)
        with torch.no_grad():
            for parameter in trainer.objective.method.backbone.parameters():
                parameter.mul_(0.5)
    queries = [[row[0].pixels for row in rows(sight)] for sight in found]
    assert all(np.array_equal(before, after) for before, after in zip(*queries, strict=True))


def test_features_that_are_not_finite_and_images_that_are_lost_cost_their_pictures_alone(
    data: str, labelled: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sight = seen(monitored(vit(), labelled), data)
    sight.values_MD[sight.specimens.place("test")] = float("nan")
    assert set(pictures(sight)) == {COLOURS, ATTENTION, SPECTRUM}
    monkeypatch.setattr("hardviews.train.feature_pictures.patch_maps", lambda *_: 1 / 0)
    assert set(pictures(sight)) == {SPECTRUM}
    assert "the picture features/pca is left out" in caplog.text


def test_a_run_without_measurements_has_none(data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Kept()
    monkeypatch.setattr(Run, "start", lambda *_, **__: run)
    pretrain(monitored(simclr(1), steps=0), Where(data, str(untracked / "run"), str(untracked / "project")))
    assert not [key for key, _ in run.pictures if key.startswith("features/")]
