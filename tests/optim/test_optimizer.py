"""timm's optimizers get the options that they need and none that they would misread."""

import pytest
import torch

from hardviews.errors import UserError
from hardviews.optim.optimizer import Optimizer, parameter_names
from tests.optim.tiny import Tiny


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("momentum", "SGD", {"momentum": 0.8, "nesterov": False}),
        ("sgd", "SGD", {"momentum": 0.8, "nesterov": True}),
        ("adamw", "AdamW", {"betas": (0.9, 0.999)}),
        ("lamb", "Lamb", {"betas": (0.9, 0.999)}),
        ("lars", "Lars", {"momentum": 0.8, "trust_clip": False}),
        ("larc", "Lars", {"momentum": 0.8, "trust_clip": True}),
        ("lars_byol", "Lars", {"momentum": 0.8, "sums_steps": False}),
        ("lars_simclr", "Lars", {"momentum": 0.8, "sums_steps": True}),
    ],
)
def test_arguments(name: str, kind: str, expected: dict) -> None:
    optimizer = Optimizer(name, learning_rate=0.1, weight_decay=0.3, momentum=0.8).build(Tiny(), 512)
    assert type(optimizer).__name__ == kind
    for group in optimizer.param_groups:
        assert {key: group[key] for key in expected} == expected
        assert group["lr"] == pytest.approx(0.2)
        assert group["weight_decay"] == 0.3
        assert "adam" not in name or "momentum" not in group


def test_biases_and_norms_need_not_decay_and_every_weight_is_in_one_group() -> None:
    method = Tiny()
    optimizer = Optimizer("adamw", weight_decay=0.3, decay_biases=False).build(method, 256)
    names = parameter_names(method, optimizer)
    assert sorted(names) == sorted(name for name, _ in method.named_parameters())
    decays = iter(names)
    found = {next(decays): (g["weight_decay"], g["fixed"]) for g in optimizer.param_groups for _ in g["params"]}
    assert found == {
        "backbone.0.weight": (0.3, False),
        "backbone.0.bias": (0.0, False),
        "backbone.1.weight": (0.0, False),
        "backbone.1.bias": (0.0, False),
        "predictor.weight": (0.3, True),
        "predictor.bias": (0.0, True),
    }


def test_frozen_weights_are_left_out() -> None:
    method = Tiny()
    method.predictor.requires_grad_(False)
    optimizer = Optimizer("momentum").build(method, 256)
    assert "predictor.weight" not in parameter_names(method, optimizer)


def test_the_rate_follows_the_global_batch_or_not() -> None:
    assert Optimizer(learning_rate=0.05).peak(1024) == pytest.approx(0.2)
    assert Optimizer(learning_rate=0.05, reference_batch=0).peak(1024) == 0.05
    # SimCLR: 0.075 times the batch's root is 4.8 at 4096, as is 0.3 for every 256.
    assert Optimizer(learning_rate=0.075, reference_batch=1, scaling="sqrt").peak(4096) == pytest.approx(4.8)
    assert Optimizer(learning_rate=0.3).peak(4096) == pytest.approx(4.8)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"name": "adamww"}, "adamw"),
        ({"name": "zzz"}, "For example"),
        ({"name": "adahessian"}, "second derivatives"),
        ({"learning_rate": 0.0}, "optimizer.learning_rate is 0.0; it must be above 0"),
        ({"weight_decay": -1.0}, "optimizer.weight_decay is -1.0; it must be 0 or more"),
        ({"clip": -1.0}, "optimizer.clip is -1.0; it must be 0 or more"),
        ({"momentum": 9.0}, "optimizer.momentum is 9.0; it must be 0 or more and below 1"),
        ({"momentum": -0.9}, "optimizer.momentum is -0.9"),
    ],
)
def test_settings_that_cannot_train_are_refused(bad: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Optimizer(**bad)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there it can")
def test_an_optimizer_that_needs_a_gpu_says_so() -> None:
    with pytest.raises(UserError, match="on this machine"):
        Optimizer("bnbadamw").build(Tiny(), 256)
