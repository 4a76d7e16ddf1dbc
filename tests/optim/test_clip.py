"""Gradients are cut to the length asked for, all together or one by one, and frozen weights take no part."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from hardviews.optim.optimizer import Optimizer
from tests.optim.tiny import Tiny


def method_with_gradients(scale: float) -> Tiny:
    method = Tiny()
    generator = torch.Generator().manual_seed(0)
    for parameter in method.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    method.predictor.bias.grad = None
    return method


def lengths(method: Tiny) -> list[float]:
    return [float(p.grad.norm()) for p in method.parameters() if p.grad is not None]


@given(scale=st.floats(0.01, 100), longest=st.floats(0.1, 10))
def test_each_weights_gradient_is_cut_by_itself(scale: float, longest: float) -> None:
    """DINO's rule: multiply by clip / (norm + 1e-6) if that is below 1."""
    method = method_with_gradients(scale)
    before = lengths(method)
    Optimizer(clip=longest, clip_per="weight").limit(method)
    wanted = [length * min(1.0, longest / (length + 1e-6)) for length in before]
    torch.testing.assert_close(torch.tensor(lengths(method)), torch.tensor(wanted))


@given(scale=st.floats(0.01, 100), longest=st.floats(0.1, 10))
def test_all_gradients_are_cut_by_one_factor(scale: float, longest: float) -> None:
    method = method_with_gradients(scale)
    before = torch.tensor(lengths(method))
    Optimizer(clip=longest, clip_per="all").limit(method)
    factor = min(1.0, longest / (float(before.norm()) + 1e-6))
    torch.testing.assert_close(torch.tensor(lengths(method)), before * factor)


def test_nothing_is_clipped_by_default() -> None:
    method = method_with_gradients(100.0)
    before = lengths(method)
    Optimizer().limit(method)
    assert lengths(method) == before
