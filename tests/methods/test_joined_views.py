"""Views of one size are one batch for a network that normalises no batch: the numbers are those of view after view."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hardviews.models.batchnorm import normalising
from hardviews.models.noise import noisy_layers
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from tests.laws.cases import METHODS, build, make_batch

HEXA = Sum((1.0, Clean()), (1.0, Adversarial()), (1.0, CutMix()))


def step(method: str, strategy: Strategy, network: str, joined: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the losses of a step's terms, and the gradient of every weight; without stochastic depth."""
    objective = build(method, strategy, network)
    for layer in noisy_layers(objective):
        layer.drop_prob = 0.0  # type: ignore[assignment]
    assert objective.method.by_row
    objective.method.by_row = joined
    batch = make_batch(objective)
    losses = objective(batch, len(batch))
    losses.total.backward()
    grads = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    return torch.stack([losses_B for _, losses_B in losses.terms]), grads


@pytest.mark.parametrize("strategy", [Clean(), HardViews(4), HEXA, Chain(HardViews(4), HEXA)], ids=str)
@pytest.mark.parametrize("method", ["dino", "ibot", "toy_centre"])
def test_joined_views_are_encoded_as_one_after_the_other(method: str, strategy: Strategy) -> None:
    (together, grads), (apart, others) = (step(method, strategy, "vit", joined) for joined in (True, False))
    close = {"rtol": 1e-3, "atol": 1e-5}
    torch.testing.assert_close(together, apart, **close)
    assert grads.keys() == others.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, others[name], msg=lambda m, n=name: f"{n}: {m}", **close)


@pytest.mark.parametrize("method", [name for name in METHODS if not name.startswith("toy")])
def test_a_network_with_batchnorm_sees_one_view_after_the_other(method: str) -> None:
    assert not build(method, Clean()).method.by_row or "ibot" in method


@pytest.mark.parametrize("method", ["simsiam", "simclr", "byol", "supervised"])
@pytest.mark.parametrize("move", [False, True])
def test_on_request_one_call_normalises_view_by_view(method: str, move: bool) -> None:
    """As scoring does on a GPU: encodings and running statistics are those of one view after the other."""
    found = []
    for by_view in (False, True):
        objective = build(method, HardViews(4))
        batch = make_batch(objective)
        calls: list[int] = []
        objective.method.backbone.register_forward_pre_hook(lambda _, args, calls=calls: calls.append(len(args[0])))
        online = list(batch.views)
        targets = sorted({pair.target for pair in objective.pairs}, key=str)
        with torch.no_grad(), normalising(objective.method, "main", move):
            encoded = objective.method.encode(replace(batch, by_view=by_view), online, targets)
        statistics = {name: value for name, value in objective.named_buffers() if "running" in name}
        found.append((encoded, statistics, calls))
    (apart, one_by_one, many), (joined, at_once, few) = found
    assert len(few) == 1 < len(many)
    assert sum(few) == sum(many)
    for mine, theirs in ((joined.online, apart.online), (joined.target, apart.target), (at_once, one_by_one)):
        assert mine.keys() == theirs.keys()
        for key in mine:
            torch.testing.assert_close(mine[key], theirs[key], rtol=1e-4, atol=1e-5)
