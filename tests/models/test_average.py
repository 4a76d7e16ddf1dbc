"""The moving average of weights is timm's: of all numbers of the state, counters copied."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from hardviews.models.average import WeightAverage
from hardviews.models.batchnorm import BranchedBatchNorm
from hardviews.strategies.adversarial import Adversarial
from tests.laws.cases import build


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def moved(net: nn.Module, steps: int, seed: int) -> list[dict[str, Tensor]]:
    """Train by noise; return the state after each step."""
    generator = torch.Generator().manual_seed(seed)
    states = []
    for _ in range(steps):
        net(torch.randn(8, 3, generator=generator))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        states.append({key: value.clone() for key, value in net.state_dict().items()})
    return states


@given(decay=st.floats(0.01, 0.9999), steps=st.integers(1, 6), seed=st.integers(0, 99))
def test_it_is_timms_bit_for_bit(decay: float, steps: int, seed: int) -> None:
    net = network()
    ours, theirs = WeightAverage({"network": net}, decay), ModelEmaV3(net, decay)
    for state in moved(network(), steps, seed):
        net.load_state_dict(state)
        ours.follow({"network": net})
        theirs.update(net)
    found = ours.get_submodule("network").state_dict()
    for key, value in theirs.module.state_dict().items():
        assert torch.equal(found[key], value), key


@given(decay=st.floats(0.01, 0.9999), steps=st.integers(1, 6))
def test_it_is_the_weighted_sum_of_all_states(decay: float, steps: int) -> None:
    net = network()
    states = [{key: value.clone() for key, value in net.state_dict().items()}]
    average = WeightAverage({"network": net}, decay)
    for state in moved(network(), steps, 1):
        net.load_state_dict(state)
        average.follow({"network": net})
        states.append(state)
    shares = [decay**steps, *((1 - decay) * decay ** (steps - 1 - number) for number in range(steps))]
    found = average.get_submodule("network").state_dict()
    for key in ("0.weight", "1.running_mean", "1.running_var", "1.bias", "2.bias"):
        expected = sum(share * state[key].double() for share, state in zip(shares, states, strict=True))
        torch.testing.assert_close(found[key].double(), expected, rtol=1e-5, atol=1e-6)
    assert found["1.num_batches_tracked"] == steps


def test_the_copies_take_no_gradient_and_may_begin_again() -> None:
    net = network()
    average = WeightAverage({"network": net, "classifier": nn.Linear(2, 2)}, 0.5)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert not any(module.training for module in average.modules())
    moved(net, 1, 0)
    assert not torch.equal(average.state_dict()["network.0.weight"], net.state_dict()["0.weight"])
    average.begin({"network": net})
    assert torch.equal(average.state_dict()["network.0.weight"], net.state_dict()["0.weight"])
    assert average.state_dict()["network.0.weight"].data_ptr() != net.state_dict()["0.weight"].data_ptr()


def test_a_branch_of_batchnorm_follows_too() -> None:
    backbone = build("simsiam", Adversarial()).method.backbone
    assert any(
        isinstance(module, BranchedBatchNorm) and module.adversarial is not None for module in backbone.modules()
    )
    average = WeightAverage({"network": backbone}, 0.9)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 1.0
    average.follow({"network": backbone})
    for key, value in average.get_submodule("network").state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.9 * before[key] + 0.1 * backbone.state_dict()[key])
