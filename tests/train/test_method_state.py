"""A killed run of a method with state of its own (target network, queue, prototypes) ends as one that went on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hardviews.methods.barlowtwins import BarlowTwinsConfig
from hardviews.methods.byol import BYOLConfig
from hardviews.methods.joint import JointConfig, Part
from hardviews.methods.method import MethodConfig
from hardviews.methods.moco import MoCoConfig
from hardviews.methods.supervised import SupervisedConfig
from hardviews.methods.swav import SwAV, SwAVConfig
from hardviews.methods.vicreg import VICRegConfig
from hardviews.models.encoder import load
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.strategy import Clean
from hardviews.train.trainer import Trainer
from hardviews.views.augmentation import Augmentation
from hardviews.world import World
from tests.train.runs import everything, train

VIEW = Augmentation(size=16, scale=(0.3, 1.0), blur=0.0)
SMALL = Augmentation(size=8, scale=(0.1, 0.3), blur=0.0)
METHODS: dict[str, MethodConfig] = {
    # A queue that no batch divides, which is overwritten once and a half.
    "moco": MoCoConfig(hidden=16, output=8, queue=50, momentum=0.9, view=VIEW),
    "byol": BYOLConfig(hidden=16, output=8, first=VIEW, second=VIEW),
    "joint": JointConfig(
        (
            Part(1.0, MoCoConfig(hidden=16, output=8, queue=50, momentum=0.9, view=VIEW)),
            Part(0.5, SupervisedConfig(classes=7, view=VIEW)),
        )
    ),
    # A regulariser, and correlations, of each micro-batch.
    "vicreg": VICRegConfig(width=16, layers=2, first=VIEW, second=VIEW),
    "barlowtwins": BarlowTwinsConfig(width=16, layers=2, first=VIEW, second=VIEW),
    "swav": SwAVConfig(
        hidden=16, output=8, prototypes=12, queue=16, queue_from=0, freeze=2, locals=1, view=VIEW, local=SMALL
    ),
}


@pytest.mark.parametrize("method", METHODS)
def test_resumes_with_its_state(data: str, untracked: Path, method: str) -> None:
    recipe = replace(everything(epochs=1, accumulate=2), method=METHODS[method])
    whole = train(recipe, data, untracked / "whole")
    killed = train(recipe, data, untracked / "killed", dies=(4,))
    assert load(str(whole)).digest == load(str(killed)).digest


def test_frozen_prototypes_stand_still(data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weight decay included; and they move from the step on at which they are let go."""
    seen: list[torch.Tensor] = []
    update = SwAV.update

    def recorded(self: SwAV, *arguments: object) -> None:
        update(self, *arguments)  # type: ignore[arg-type]
        seen.append(self.prototypes.weight.detach().clone())

    monkeypatch.setattr(SwAV, "update", recorded)
    recipe = replace(everything(epochs=1), method=METHODS["swav"])
    start = Trainer(recipe, World(0, 1, torch.device("cpu"))).objective.method
    assert isinstance(start, SwAV)
    train(recipe, data, untracked / "run")
    moved = [float((now - start.prototypes.weight.detach()).abs().max()) for now in seen]
    assert max(moved[:2]) < 1e-6 < 1e-4 < min(moved[2:])


def test_resumes_with_what_a_strategy_has_learnt(data: str, untracked: Path) -> None:
    recipe = replace(everything(epochs=1, accumulate=2), strategy=PredictedViews(4, warm_up=2))
    whole = train(recipe, data, untracked / "whole")
    killed = train(recipe, data, untracked / "killed", dies=(4,))
    assert load(str(whole)).digest == load(str(killed)).digest
    again = train(replace(recipe, strategy=Clean()), data, untracked / "plain")
    assert load(str(again)).digest != load(str(whole)).digest
