"""Labels reach the step of a method that trains on them, and no other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hardviews.data.index import Index
from hardviews.data.pack import pack
from hardviews.data.source import Item
from hardviews.errors import UserError
from hardviews.methods.joint import JointConfig, Part
from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.encoder import load
from hardviews.runs.audit import audit
from hardviews.runs.checkpoint import Checkpoints
from hardviews.strategies.compose import Chain
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.train.recipe import Recipe
from tests.data.helpers import Noise
from tests.train.runs import SAMPLES, rows, simclr, train


class Permuted(Noise):
    """The same images with other labels."""

    def read(self, i: int) -> Item:
        return replace(super().read(i), label=(i // 2) % 2)


def supervised(**training: int) -> Recipe:
    recipe = simclr(**training)
    config = SupervisedConfig(classes=len(Noise(1).classes), view=recipe.method.view)  # type: ignore[attr-defined]
    return replace(recipe, name="supervised", method=config, strategy=Chain(HardViews(4), CutMix()))


def weights(output: Path) -> dict[str, torch.Tensor]:
    found = Checkpoints(str(output)).latest(torch.device("cpu"))
    assert found is not None
    return found.tensors


def test_permuted_labels_change_a_supervised_run_and_no_self_supervised_one(untracked: Path) -> None:
    for name, recipe, same in (("simclr", simclr(1), True), ("supervised", supervised(epochs=1), False)):
        losses, tensors = [], []
        for source in (Noise, Permuted):
            data = str(untracked / source.__name__)
            if not Path(data).exists():
                pack(source(SAMPLES), data, shard_bytes=40_000)
            output = train(recipe, data, untracked / f"{name}-{source.__name__}")
            losses.append([row["loss"] for row in rows(output)])
            tensors.append(weights(output))
        assert (losses[0] == losses[1]) == same
        equal = all(torch.equal(tensor, tensors[1][key]) for key, tensor in tensors[0].items() if "model" in key)
        assert equal == same
    labels = [Index.load(str(untracked / name)).labels for name in ("Noise", "Permuted")]
    assert not np.array_equal(*labels)


def test_a_supervised_run_reports_its_accuracy_and_uses_every_sample_once(data: str, untracked: Path) -> None:
    output = train(supervised(), data, untracked / "run")
    last = rows(output)[-1]
    assert 0 <= last["accuracy/top1"] <= 1
    assert last["hardness/chosen"] >= last["hardness/mean"]
    assert not audit(str(output)).problems


def test_too_few_classes_are_reported_before_anything_is_written(untracked: Path) -> None:
    pack(Noise(SAMPLES, classes=("even", "odd", "neither")), str(untracked / "data"), shard_bytes=40_000)
    with pytest.raises(UserError, match=r"has 3 classes, more than the 2 .*--method\.classes 3"):
        train(supervised(), str(untracked / "data"), untracked / "run")
    assert not (untracked / "run").exists()


class OneClass(Noise):
    """The same images, all of one class of two."""

    def read(self, i: int) -> Item:
        return replace(super().read(i), label=1)


@pytest.mark.parametrize("source", [OneClass(SAMPLES), OneClass(SAMPLES, classes=("a", "b"))], ids=["noise", "named"])
def test_labels_of_one_class_teach_nothing(untracked: Path, source: Noise) -> None:
    pack(source, str(untracked / "data"), shard_bytes=40_000)
    with pytest.raises(UserError, match="are of one class"):
        train(supervised(epochs=1), str(untracked / "data"), untracked / "run")
    assert not (untracked / "run").exists()


class Partly(Noise):
    """The same images, two in three without a label."""

    def read(self, i: int) -> Item:
        item = super().read(i)
        return item if i % 3 == 0 else replace(item, label=-1)


def joint() -> Recipe:
    """SimCLR on all images, and a classifier on those with a label."""
    recipe, labels = simclr(1), supervised(epochs=1)
    return replace(recipe, name="joint", method=JointConfig((Part(1.0, recipe.method), Part(1.0, labels.method))))


def test_partly_labelled_data_trains_each_part_on_its_images(untracked: Path) -> None:
    pack(Partly(SAMPLES), str(untracked / "data"), shard_bytes=40_000)
    output = train(joint(), str(untracked / "data"), untracked / "run")
    last = rows(output)[-1]
    assert last["0/loss/clean"] > 0 and last["1/loss/clean"] > 0
    assert 0 <= last["1/accuracy/top1"] <= 1
    assert not audit(str(output)).problems
    classifier = load(str(output)).classifier
    assert classifier is not None and len(classifier) == 2


def test_too_few_classes_of_a_part_are_reported_with_the_place_of_the_setting(untracked: Path) -> None:
    pack(Noise(SAMPLES, classes=("even", "odd", "neither")), str(untracked / "data"), shard_bytes=40_000)
    with pytest.raises(UserError, match=r"more than the 2 that Supervised .*--method\.parts\.1\.method\.classes 3"):
        train(joint(), str(untracked / "data"), untracked / "run")
