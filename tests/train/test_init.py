"""A run that begins with the weights of a trained encoder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardviews.errors import UserError
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import load
from hardviews.runs.where import Where
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Sum
from hardviews.strategies.strategy import Clean
from hardviews.train.init import begin_from, open_encoder
from hardviews.train.loop import pretrain
from hardviews.train.trainer import build_objective
from tests.laws.cases import METHODS, build
from tests.train.runs import dying, rows, simclr, train
from tests.train.test_labels import supervised


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.train.runs import packed

    folder = tmp_path_factory.mktemp("pretrained")
    return train(simclr(1), packed(folder / "shards"), folder / "run")


def test_the_backbone_and_its_copies_begin_as_the_encoder(pretrained: Path) -> None:
    encoder = open_encoder(str(pretrained), ".hardviews")
    recipe = replace(supervised(), strategy=Sum((1.0, Clean()), (1.0, Adversarial())))
    objective = build_objective(recipe)
    begin_from(objective, encoder, "RUN")
    state = objective.method.backbone.state_dict()
    for name, value in encoder.network.state_dict().items():
        assert torch.equal(state[name], value)
    branches = [name for name in state if ".adversarial." in name]
    assert branches
    for name in branches:
        assert torch.equal(state[name], state[name.replace(".adversarial.", ".")])


@pytest.mark.parametrize("method", ["moco", "byol", "dino"])
def test_momentum_encoders_begin_as_the_encoder_too(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert method in METHODS
    objective, other = build(method, Clean(), seed=0), build(method, Clean(), seed=1)

    class Given:
        network = other.method.backbone
        backbone = Backbone("test_resnet")

    begin_from(objective, Given(), "RUN")  # type: ignore[arg-type]
    for name, value in other.method.backbone.state_dict().items():
        assert torch.equal(objective.method.momentum.backbone.state_dict()[name], value)  # type: ignore[union-attr, operator]


def test_a_run_that_was_begun_goes_on_without_the_encoder(pretrained: Path, data: str, untracked: Path) -> None:
    recipe, place = supervised(epochs=1), str(pretrained)
    whole = Where(data, str(untracked / "whole"), str(untracked / "project"), init=place)
    pretrain(recipe, whole)
    with dying(4):
        pretrain(recipe, replace(whole, output=str(untracked / "cut")))
    pretrain(recipe, replace(whole, output=str(untracked / "cut"), init="nowhere"))
    assert rows(untracked / "cut") == rows(untracked / "whole")
    random = train(recipe, data, untracked / "random")
    assert rows(random)[0]["loss"] != rows(untracked / "whole")[0]["loss"]
    first, second = (load(str(untracked / name)).network.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_another_network_is_refused_by_name(pretrained: Path, data: str, untracked: Path) -> None:
    recipe = replace(supervised(), backbone=Backbone("resnet18"))
    with pytest.raises(UserError, match=r"--init .* is a test_resnet.*--backbone\.name test_resnet"):
        pretrain(recipe, Where(data, str(untracked / "run"), str(untracked / "project"), init=str(pretrained)))
    assert not (untracked / "run" / "checkpoints").exists()
    with pytest.raises(UserError, match="nowhere"):
        pretrain(recipe, Where(data, str(untracked / "run"), str(untracked / "project"), init="nowhere"))
