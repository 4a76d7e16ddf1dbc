"""Views of one size are one batch for a network that normalises no batch: the numbers are those of view after view."""

import pytest
import torch
from torch import Tensor

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
