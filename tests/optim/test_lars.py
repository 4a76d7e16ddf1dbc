"""LARS and LARC take the steps that SimCLR, BYOL and SwAV published, written out here in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hardviews.optim.optimizer import Optimizer
from tests.optim.tiny import Tiny

Array = NDArray[np.float64]
TRUST, MOMENTUM, DECAY = 1e-3, 0.9, 0.01
RATES = (0.5, 2.0, 4.8, 3.0)  # the rate changes, or the places at which momentum meets it would look the same


def length(x: Array) -> float:
    return float(np.sqrt((x * x).sum()))


def simclr(w: Array, g: Array, v: Array, rate: float, plain: bool) -> tuple[Array, Array]:
    """google-research/simclr, lars_optimizer.py: classic momentum, which sums steps."""
    if not plain:
        g = g + DECAY * w
    ratio = TRUST * length(w) / length(g) if not plain and length(w) > 0 and length(g) > 0 else 1.0
    v = MOMENTUM * v + rate * ratio * g
    return w - v, v


def byol(w: Array, g: Array, v: Array, rate: float, plain: bool) -> tuple[Array, Array]:
    """deepmind-research/byol/utils/optimizers.py: weight decay, adaptation, momentum, then the rate."""
    if not plain:
        g = g + DECAY * w
        if length(w) > 0 and length(g) > 0:
            g = g * TRUST * length(w) / length(g)
    v = MOMENTUM * v + g
    return w - rate * v, v


def larc(w: Array, g: Array, v: Array, rate: float, plain: bool) -> tuple[Array, Array]:
    """NVIDIA apex LARC(clip=False) around torch's SGD, as in SwAV: on all parameters, by the sum of norms."""
    if length(w) != 0 and length(g) != 0:
        g = (g + DECAY * w) * TRUST * length(w) / (length(g) + length(w) * DECAY + 1e-8)
    v = MOMENTUM * v + g
    return w - rate * v, v


CASES = {"lars_simclr": (simclr, False), "lars_byol": (byol, False), "lars": (larc, True)}


def trained(name: str, decay_biases: bool) -> dict[str, Array]:
    method = Tiny().double()
    method.backbone[0].bias.data.zero_()
    optimizer = Optimizer(name, 1.0, 0, weight_decay=DECAY, momentum=MOMENTUM, decay_biases=decay_biases).build(
        method, 256
    )
    for step, rate in enumerate(RATES):
        for parameter, gradient in zip(method.parameters(), gradients(step), strict=True):
            parameter.grad = torch.from_numpy(gradient)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return {name: parameter.detach().numpy() for name, parameter in method.named_parameters()}


def gradients(step: int) -> list[Array]:
    random = np.random.default_rng(step)
    return [random.normal(size=tuple(p.shape)) for p in Tiny().parameters()]


def expected(formula: Callable[..., tuple[Array, Array]]) -> dict[str, Array]:
    method = Tiny().double()
    method.backbone[0].bias.data.zero_()
    weights = {name: parameter.detach().numpy().copy() for name, parameter in method.named_parameters()}
    moving = {name: np.zeros_like(weight) for name, weight in weights.items()}
    for step, rate in enumerate(RATES):
        for (name, weight), gradient in zip(list(weights.items()), gradients(step), strict=True):
            weights[name], moving[name] = formula(weight, gradient, moving[name], rate, weight.ndim == 1)
    return weights


@pytest.mark.parametrize("name", CASES)
def test_steps_are_the_published_ones(name: str) -> None:
    formula, decay_biases = CASES[name]
    found, wanted = trained(name, decay_biases), expected(formula)
    for weight in wanted:
        np.testing.assert_allclose(found[weight], wanted[weight], rtol=1e-9, err_msg=weight)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("other", CASES)
def test_the_three_differ(name: str, other: str) -> None:
    """So the test above can fail: no formula stands in for another."""
    found, wanted = trained(name, CASES[name][1]), expected(CASES[other][0])
    same = all(np.allclose(found[weight], wanted[weight], rtol=1e-6) for weight in wanted)
    assert same == (name == other)


def test_timms_larc_is_another_one() -> None:
    """It clips the adapted rate by the group's; SwAV and DeepCluster-v2 do not."""
    assert any(
        not np.allclose(a, b) for a, b in zip(trained("larc", True).values(), expected(larc).values(), strict=True)
    )


@pytest.mark.parametrize("decay_biases", [False, True])
@pytest.mark.parametrize("name", ["lars_simclr", "lars_byol", "lars"])
def test_without_weight_decay_weights_are_still_adapted(name: str, decay_biases: bool) -> None:
    method = Tiny().double()
    optimizer = Optimizer(name, 1.0, 0, weight_decay=0.0, decay_biases=decay_biases).build(method, 256)
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    for parameter in method.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()
    for key, parameter in method.named_parameters():
        moved = (parameter.detach() - before[key]).norm()
        adapted = parameter.ndim > 1 or decay_biases
        wanted = TRUST * before[key].norm() if adapted else parameter.grad.norm()
        torch.testing.assert_close(moved, wanted)


def test_a_weight_without_gradient_stays() -> None:
    method = Tiny()
    optimizer = Optimizer("lars_byol", decay_biases=False).build(method, 256)
    before = method.predictor.weight.detach().clone()
    method.backbone[0].weight.grad = torch.ones_like(method.backbone[0].weight)
    optimizer.step()
    assert torch.equal(before, method.predictor.weight)
