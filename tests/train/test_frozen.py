"""Frozen stages in a training: they stay bit for bit, cost the optimizer nothing, and all of them are a linear probe.

Shape suffixes: B images, D features, L classes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hardviews.checked import as_before
from hardviews.errors import UserError
from hardviews.evaluation.subject import Subject
from hardviews.methods.byol import BYOLConfig
from hardviews.methods.supervised import Supervised, SupervisedConfig
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import load
from hardviews.optim.optimizer import Optimizer
from hardviews.runs.checkpoint import Checkpoints
from hardviews.runs.where import Where
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Sum
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.loop import pretrain
from hardviews.train.recipe import Recipe, Training
from hardviews.train.trainer import Trainer, build_objective
from tests.train.runs import dying, rows, simclr

RESNET = "timm:test_resnet"
ALL = 4


def frozen(stages: int, strategy: Strategy | None = None, **training: Any) -> Recipe:
    recipe = simclr(**training)
    return replace(
        recipe,
        method=SupervisedConfig(classes=2, view=recipe.method.view),  # type: ignore[attr-defined]
        strategy=strategy or Clean(),
        training=replace(recipe.training, frozen_stages=stages),
        optimizer=Optimizer("momentum", learning_rate=0.1, weight_decay=0.01),
    )


def tune(recipe: Recipe, data: str, output: Path) -> dict[str, Tensor]:
    """Train from the encoder; return the tensors of the last checkpoint."""
    pretrain(recipe, Where(data, str(output), str(output.parent / "project"), init=RESNET))
    found = Checkpoints(str(output)).latest()
    assert found is not None
    return found.tensors


@pytest.mark.parametrize("attacked", [False, True], ids=["clean", "attacked"])
def test_frozen_weights_and_statistics_stay_bit_for_bit(data: str, untracked: Path, attacked: bool) -> None:
    strategy = Sum((1.0, Clean()), (1.0, Adversarial())) if attacked else Clean()
    recipe = frozen(2, strategy, epochs=1)
    tensors = tune(recipe, data, untracked / "run")
    before = Subject(encoder=RESNET).open("project").network.state_dict()
    after = load(str(untracked / "run")).network.state_dict()
    still = [name for name in before if name.startswith(("conv1", "bn1", "layer1", "layer2"))]
    moving = [name for name in before if name not in still]
    assert all(torch.equal(before[name], after[name]) for name in still) and len(still) > 20
    assert all(not torch.equal(before[name], after[name]) for name in moving if before[name].ndim)
    kept = {key.removeprefix("optimizer.") for key in tensors if key.startswith("optimizer.")}
    plain = {key.replace("adversarial.", "") for key in kept}
    assert plain and not any(key.startswith(f"method.backbone.{name}/") for name in still for key in plain)
    assert any("layer3" in key for key in kept)


def test_a_killed_training_goes_on_as_if_it_was_not(data: str, untracked: Path) -> None:
    recipe = frozen(2, epochs=2)
    whole = tune(recipe, data, untracked / "whole")
    with dying(4):
        tune(recipe, data, untracked / "cut")
    cut = tune(recipe, data, untracked / "cut")
    assert rows(untracked / "cut") == rows(untracked / "whole")
    assert whole.keys() == cut.keys() and all(torch.equal(whole[key], cut[key]) for key in whole)


def test_all_stages_frozen_train_a_linear_classifier_on_frozen_features(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels: list[Tensor] = []
    labels: list[Tensor] = []
    rates: list[float] = []
    embed, loss, step = Supervised.embed, Supervised.pair_loss, Trainer.step
    heads: list[Tensor] = []

    def seen(self: Supervised, views: Tensor) -> Tensor:
        pixels.append(views.detach().clone())
        return embed(self, views)

    def judged(self: Supervised, batch: Any, online: Tensor, target: Tensor, pair: Any) -> Tensor:
        labels.append(target.detach().clone())
        return loss(self, batch, online, target, pair)

    def noted(self: Trainer, *given: Any) -> Any:
        head = self.objective.method.classifier
        assert head is not None
        if not heads:
            heads.extend(tensor.detach().double().clone() for tensor in head.parameters())
        report = step(self, *given)
        rates.append(report.rate)
        return report

    monkeypatch.setattr(Supervised, "embed", seen)
    monkeypatch.setattr(Supervised, "pair_loss", judged)
    monkeypatch.setattr(Trainer, "step", noted)
    tune(frozen(ALL, epochs=1), data, untracked / "run")
    network = Subject(encoder=RESNET).open("project").network.eval()
    weight_LD, bias_L = heads
    speed = [torch.zeros_like(weight_LD), torch.zeros_like(bias_L)]
    assert len(pixels) == len(labels) == len(rates) == 5
    for pixels_BCHW, labels_B, rate in zip(pixels, labels, rates, strict=True):
        with torch.no_grad():
            features_BD = network(pixels_BCHW).double()
        residual_BL = (features_BD @ weight_LD.T + bias_L).softmax(1) - torch.eye(2, dtype=torch.float64)[labels_B]
        gradients = residual_BL.T @ features_BD / len(labels_B), residual_BL.mean(0)
        for value, gradient, momentum in zip((weight_LD, bias_L), gradients, speed, strict=True):
            momentum.mul_(0.9).add_(gradient + 0.01 * value)
            value.sub_(rate * momentum)
    found = load(str(untracked / "run")).classifier
    assert found is not None
    torch.testing.assert_close(found.weight_LD.double(), weight_LD, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.bias_L.double(), bias_L, rtol=1e-4, atol=1e-6)


def test_random_weights_are_not_frozen(data: str, untracked: Path) -> None:
    with pytest.raises(UserError, match=r"begins with random ones.*--init RUN"):
        pretrain(frozen(1), Where(data, str(untracked / "run"), str(untracked / "project")))
    assert not (untracked / "run" / "run.json").exists()


def test_a_network_that_a_momentum_encoder_follows_is_not_frozen() -> None:
    recipe = replace(frozen(1), method=BYOLConfig(hidden=16, output=8))
    with pytest.raises(UserError, match="BYOL has a momentum encoder"):
        build_objective(recipe)


def test_the_stages_of_a_transformer_are_its_blocks() -> None:
    recipe = replace(frozen(2), backbone=Backbone("test_vit", image_size=32))
    objective = build_objective(recipe).train()
    modes = {name: module.training for name, module in objective.method.backbone.named_modules()}
    assert not any(modes[name] for name in ("patch_embed", "blocks.0", "blocks.1", "blocks.1.attn"))
    assert all(modes[name] for name in ("", "blocks.2", "norm"))


def test_the_setting_is_of_the_recipe_and_runs_of_earlier_versions_go_on() -> None:
    assert "frozen_stages" in as_before(Training())
    assert frozen(-1).digest() == replace(frozen(1), training=frozen(-1).training).digest() != frozen(1).digest()
    with pytest.raises(UserError, match=r"training\.frozen_stages is -2"):
        Training(frozen_stages=-2)
