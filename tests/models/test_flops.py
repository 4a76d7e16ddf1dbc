"""The work with a view is counted, not guessed from its area."""

import pytest
import torch
from torch import nn

from hardviews.models.flops import forward_flops, work


class Stages(nn.Module):
    """Two convolutions of stride 2: a network of stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.second = nn.Conv2d(4, 8, 3, 2, 1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.second(self.first(x)))


@pytest.mark.parametrize("size", [16, 14, 9, 8, 5])
def test_operations_are_those_of_the_convolutions(size: int) -> None:
    one, two = (size + 1) // 2, ((size + 1) // 2 + 1) // 2
    assert forward_flops(Stages(), size) == 2 * (one * one * 4 * 27 + two * two * 8 * 36)


def test_the_work_is_their_share() -> None:
    network = Stages()
    assert work(network, 16, 16) == 1
    assert work(network, 8, 16) == 0.25
    assert work(network, 5, 8) == pytest.approx((9 * 108 + 4 * 288) / (16 * 108 + 4 * 288))
    assert work(network, 5, 8) > (5 / 8) ** 2


def test_counting_leaves_no_trace() -> None:
    network = Stages().train()
    stream = torch.get_rng_state()
    forward_flops(network, 12)
    assert network.training
    assert network.drop.training
    assert torch.equal(stream, torch.get_rng_state())
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_what_cannot_be_counted_goes_by_area() -> None:
    class Stubborn(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError

    for network in (Stubborn(), nn.Identity()):
        assert forward_flops(network, 8) == 0
        assert work(network, 8, 16) == 0.25
