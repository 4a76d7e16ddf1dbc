"""A training by labels leaves its classifier beside the encoder, in the tracking, and in every checkpoint."""

from dataclasses import replace

import pytest
import torch

from hardviews.data.pack import pack
from hardviews.evaluation.subject import Subject
from hardviews.methods.supervised import SupervisedConfig
from hardviews.models.encoder import load
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.record import Record
from hardviews.runs.where import Where
from hardviews.train.loop import pretrain
from tests.evaluation.test_features import Noise
from tests.train.runs import BATCH, simclr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Where:
    """The places of a finished training of five classes on a dataset of three."""
    folder = tmp_path_factory.mktemp("supervised")
    pack(Noise(BATCH * 3), str(folder / "data"), progress=False)
    recipe = simclr(1, checkpoint_steps=1)
    method = SupervisedConfig(classes=5, view=recipe.method.view)  # type: ignore[attr-defined]
    where = Where(str(folder / "data"), str(folder / "output"), str(folder / "tracking"))
    pretrain(replace(recipe, method=method), where)
    return where


def test_the_classifier_is_exported_with_the_weights_of_the_last_checkpoint(trained: Where) -> None:
    found = Checkpoints(trained.output).latest()
    assert found is not None
    exported = load(trained.output)
    assert exported.classifier is not None
    assert (len(exported.classifier), exported.classifier.num_features) == (5, exported.num_features)
    assert exported.classifier.names == Noise(1).classes
    (name,) = [key for key, value in found.tensors.items() if key.startswith("model.") and key.endswith("head.weight")]
    assert torch.equal(exported.classifier.weight_LD, found.tensors[name])
    assert torch.equal(exported.classifier.bias_L, found.tensors[name.replace("weight", "bias")])


def test_the_newest_checkpoint_of_a_training_has_it_too(trained: Where) -> None:
    exported, newest = load(trained.output), Subject(run=trained.output, checkpoint="newest").open("project")
    assert exported.classifier is not None and newest.classifier is not None
    assert newest.digest == exported.digest and newest.classifier.digest == exported.classifier.digest
    earlier = Subject(run=trained.output, checkpoint=Checkpoints(trained.output).names()[1]).open("project")
    assert earlier.classifier is not None and earlier.classifier.digest != exported.classifier.digest


def test_tables_call_the_encoder_a_supervised_one(trained: Where) -> None:
    record = Record.read(trained.output)
    assert record is not None
    named = (Subject(run=trained.output), Subject(run=trained.output, checkpoint="newest"), Subject(run=record.run_id))
    assert [one.called(one.open(trained.project)) for one in named] == ["supervised encoder"] * 3


def test_the_tracked_model_has_it_too(trained: Where) -> None:
    record = Record.read(trained.output)
    assert record is not None
    tracked = Subject(run=record.run_id).open(trained.project)
    exported = load(trained.output)
    assert tracked.classifier is not None and exported.classifier is not None
    assert tracked.classifier.digest == exported.classifier.digest
