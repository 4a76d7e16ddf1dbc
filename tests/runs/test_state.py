"""Weights and optimizers come back from a checkpoint as they were, whatever the optimizer keeps."""

import pytest
import torch
from timm.optim import list_optimizers
from torch import nn

from hardviews.errors import UserError
from hardviews.optim.optimizer import OWN, Optimizer
from hardviews.runs.state import first_not_finite, from_tensors, misfit, to_tensors
from tests.optim.tiny import Tiny

NEEDS_A_GPU = [name for name in map(str, list_optimizers()) if name.startswith(("bnb", "fused"))]
NAMES = sorted({*map(str, list_optimizers())} - {*NEEDS_A_GPU, "adahessian", "kron", "kronc", "kronw"} | OWN.keys())


def step(method: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in method.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    torch.manual_seed(seed)  # as the trainer does before a step
    optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_goes_on_bit_for_bit(name: str) -> None:
    config = Optimizer(name, learning_rate=0.01, decay_biases=name not in OWN)
    whole, broken = Tiny(), Tiny()
    mine = config.build(whole, 256)
    for seed in range(3):
        step(whole, mine, seed)
    tensors = {key: tensor.clone() for key, tensor in to_tensors(whole, mine).items()}
    assert all(tensor.ndim == 0 or tensor.numel() for tensor in tensors.values())
    theirs = config.build(broken, 256)
    assert misfit(tensors, broken, theirs) is None
    from_tensors(tensors, broken, theirs)
    for seed in (3, 4):
        step(whole, mine, seed)
        step(broken, theirs, seed)
    for a, b in zip(whole.parameters(), broken.parameters(), strict=True):
        assert torch.equal(a, b)
    for key, tensor in to_tensors(whole, mine).items():
        assert torch.equal(tensor, to_tensors(broken, theirs)[key]), key


def test_another_networks_state_is_refused() -> None:
    config = Optimizer("momentum")
    wide = Tiny(8)
    tensors = to_tensors(wide, config.build(wide, 256))
    other = Tiny()
    with pytest.raises(UserError, match="another network or method"):
        from_tensors(tensors, other, config.build(other, 256))


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (Optimizer("adamw"), Optimizer("momentum"), "has kept exp_avg, exp_avg_sq, step of each weight and not mom"),
        (Optimizer("momentum"), Optimizer("adamw"), "has kept momentum_buffer of each weight and not exp_avg"),
        (Optimizer("lamb"), Optimizer("lamb", decay_biases=False), "counts steps for 2 groups of weights"),
        (Optimizer("lamb", decay_biases=False), Optimizer("lamb"), "these settings make 2"),
        (Optimizer("momentum", momentum=0), Optimizer("momentum"), None),
        (Optimizer("momentum"), Optimizer("momentum", momentum=0, decay_biases=False), None),
    ],
)
def test_a_state_that_other_settings_cannot_follow_is_reported(
    before: Optimizer, now: Optimizer, said: str | None
) -> None:
    method, other = Tiny(), Tiny()
    optimizer = before.build(method, 256)
    step(method, optimizer, 0)
    tensors = to_tensors(method, optimizer)
    told = misfit(tensors, other, now.build(other, 256))
    assert told is None if said is None else said in str(told), told


def test_a_frozen_weights_state_is_reported() -> None:
    method, other = Tiny(), Tiny()
    optimizer = Optimizer("momentum").build(method, 256)
    step(method, optimizer, 0)
    other.predictor.requires_grad_(False)
    told = misfit(to_tensors(method, optimizer), other, Optimizer("momentum").build(other, 256))
    assert told is not None and "trained predictor" in told


def test_a_spoilt_weight_is_found_by_name() -> None:
    method = Tiny()
    assert first_not_finite(method) is None
    method.predictor.weight.data[0, 0] = torch.inf
    assert first_not_finite(method) == "predictor.weight"
