"""Learning rates by the place of a weight."""

import pytest
import timm
import torch

from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.methods.supervised import SupervisedConfig
from hardviews.objective.objective import Objective
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.rates import rate_scales
from hardviews.optim.schedule import Schedule
from hardviews.strategies.adversarial import Adversarial
from tests.optim.tiny import Tiny


def rates(optimizer: torch.optim.Optimizer) -> dict[int, float]:
    return {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_layers_of_a_vision_transformer_decay_as_published() -> None:
    """BEiT: the embeddings are layer 0, block i is layer i + 1, and the head comes after the last one.

    The norm behind the blocks belongs to the last of them, as timm has it.
    """
    method = SupervisedConfig(classes=5).build(timm.create_model("test_vit", num_classes=0), 64)
    blocks = len(method.backbone.blocks)
    scales = rate_scales(method, 10.0, 0.5)
    for name, parameter in method.named_parameters():
        if name.startswith("head."):
            wanted = 10.0
        elif name.startswith("backbone.blocks."):
            wanted = 0.5 ** (blocks - int(name.split(".")[2]))
        elif name.startswith("backbone.norm"):
            wanted = 0.5
        else:
            wanted = 0.5 ** (blocks + 1)
        assert scales[id(parameter)] == wanted, name


def test_an_adversarial_branch_learns_as_the_norm_that_it_belongs_to() -> None:
    method = SupervisedConfig(classes=5).build(timm.create_model("test_resnet", num_classes=0), 64)
    Objective(method, Adversarial())
    scales = rate_scales(method, 1.0, 0.7)
    named = dict(method.backbone.named_parameters())
    branches = [name for name in named if "adversarial." in name]
    assert branches
    for name in branches:
        assert scales[id(named[name])] == scales[id(named[name.replace("adversarial.", "")])]
    assert len(set(scales.values())) > 2


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars", "lars_byol"])
def test_the_schedule_moves_all_rates_in_proportion(name: str) -> None:
    method = SupervisedConfig(classes=5).build(timm.create_model("test_resnet", num_classes=0), 64)
    optimizer = Optimizer(name, 0.1, 256, head_rate=5.0).build(method, 512)
    heads = {id(p) for p in method.head.parameters()}
    for progress, share in ((0, 1.0), (50, 0.5), (100, 0.0)):
        Schedule().apply(optimizer, 0.2, Clock(0, 0, progress, progress, 100), 1)
        for key, rate in rates(optimizer).items():
            assert rate == pytest.approx(0.2 * share * (5.0 if key in heads else 1.0))


@pytest.mark.parametrize("name", ["sgd", "lars_byol"])
def test_biases_and_norms_have_a_rate_of_their_own(name: str) -> None:
    """A multiple of the rate of weights at the same place, in the backbone and in the head."""
    method = SupervisedConfig(classes=5).build(timm.create_model("test_resnet", num_classes=0), 64)
    optimizer = Optimizer(name, 0.2, 256, head_rate=5.0, bias_rate=0.024, decay_biases=False).build(method, 2048)
    found = rates(optimizer)
    heads = {id(p) for p in method.head.parameters()}
    assert {p.ndim for p in method.head.parameters()} == {1, 2}
    for key, parameter in method.named_parameters():
        wanted = 1.6 * (5.0 if id(parameter) in heads else 1.0) * (0.024 if parameter.ndim == 1 else 1.0)
        Schedule().apply(optimizer, 1.6, Clock(0, 0, 0, 0, 100), 1)
        assert {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}[id(parameter)] == pytest.approx(
            wanted
        ), key
    assert len(found) == len(list(method.parameters()))


def test_without_scales_the_groups_are_those_of_before() -> None:
    """So the optimizer's state of an older checkpoint fits."""
    groups = Optimizer("adamw", decay_biases=False).build(Tiny(), 256).param_groups
    assert [(g["fixed"], g["decay"] > 0, len(g["params"])) for g in groups] == [
        (False, True, 1),
        (False, False, 3),
        (True, True, 1),
        (True, False, 1),
    ]


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(UserError, match=r"layer_decay needs a network whose layers timm numbers"):
        Optimizer(layer_decay=0.5).build(Tiny(), 256)
    with pytest.raises(UserError, match="layer_decay"):
        Optimizer(layer_decay=1.5)
