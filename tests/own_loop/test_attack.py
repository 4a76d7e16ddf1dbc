"""The attack for a loop of one's own: its bound, its strength, as the product attacks, and without a trace."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hardviews.errors import UserError
from hardviews.own_loop.attack import attack
from hardviews.strategies.adversarial import Adversarial
from hardviews.views.augmentation import Normalisation
from tests.laws.cases import build, make_batch
from tests.own_loop.test_hard_views import Network

IMAGENET = Normalisation()


def view(rows: int = 6, size: int = 16) -> Tensor:
    return IMAGENET.normalise(torch.rand(rows, 3, size, size, generator=torch.Generator().manual_seed(0)))


@settings(deadline=None, max_examples=20)
@given(levels=st.integers(0, 64), steps=st.integers(1, 3))
def test_any_attack_keeps_its_bound(levels: int, steps: int) -> None:
    network, clean = Network(), view()
    target = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    moved = attack(network, clean, lambda v: -cosine_similarity(network(v), target), epsilon=levels / 255, steps=steps)
    before, now = IMAGENET.denormalise(clean), IMAGENET.denormalise(moved)
    assert (now - before).abs().max() <= levels / 255 + 1e-6
    assert -1e-6 <= now.min() <= now.max() <= 1 + 1e-6
    assert not moved.requires_grad


@pytest.mark.parametrize("steps", [1, 5])
def test_the_loss_rises(steps: int) -> None:
    network, clean = Network().eval(), view()
    target = network(clean).detach().roll(1, 0)

    def loss(v: Tensor) -> Tensor:
        return -cosine_similarity(network(v), target)

    with torch.no_grad():
        before = loss(clean)
        assert (loss(attack(network, clean, loss, epsilon=4 / 255, steps=steps)) > before).all()


def test_it_attacks_as_a_run_does() -> None:
    """Without BatchNorm, whose statistics a run holds constant."""
    objective = build("simclr", Adversarial(4 / 255, branch="main"), "vit").eval()
    batch = make_batch(objective)
    (term,) = objective.strategy(batch, objective)
    for slot, hard in term.batch.hard.items():
        others = {s: objective.method.embed(v.pixels()).detach() for s, v in batch.views.items()}

        def loss(pixels: Tensor, slot: Any = slot, others: Any = others) -> Tensor:
            encoded = objective.method.encode(batch, [], list(others))
            online = {s: objective.method.predict(o) for s, o in others.items()}
            online[slot] = objective.method.predict(objective.method.embed(pixels))
            return objective.reduce(objective.method.pair_losses(batch, online, encoded.target, objective.pairs))

        mine = attack(objective, batch.views[slot].pixels(), loss, epsilon=4 / 255)
        # The sign of a gradient of nearly 0 is a matter of rounding.
        assert ((mine - hard.pixels()).abs() > 1e-6).float().mean() < 1e-3


def test_nothing_of_the_network_changes() -> None:
    network = Network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    attack(network, view(), lambda v: network(v).square().mean())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epsilon": 4}, "write 4/255 as 0.0157"),
        ({"epsilon": -1}, "a bound is 0 or more"),
        ({"epsilon": float("nan")}, "a bound is 0 or more"),
        ({"steps": 0}, "take 1 .FGSM. or more"),
        ({"steps": 2.5}, "take 1 .FGSM. or more"),
        ({"step_size": 0}, "a part of the bound"),
        ({"network": "model"}, "got a str as its network"),
        ({"view": torch.zeros(6, 3, 16, 16, dtype=torch.uint8)}, "normalise it first"),
    ],
)
def test_mistakes_are_named(changes: Any, said: str) -> None:
    network = Network()
    given = {"network": network, "view": view(), "loss": lambda v: network(v).mean()}
    with pytest.raises(UserError, match=said):
        attack(**(given | changes))
    with pytest.raises(UserError, match="does not depend on the view"):
        attack(network, view(), lambda v: torch.zeros(6))
