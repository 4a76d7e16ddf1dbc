"""Losses of matrices of a whole batch equal lightly's, value and gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import BarlowTwinsLoss, VICRegLoss
from torch import Tensor

from hardviews.methods import barlowtwins, vicreg
from hardviews.methods.barlowtwins import BarlowTwinsConfig
from hardviews.methods.vicreg import VICRegConfig
from hardviews.objective.objective import Objective
from tests.laws.cases import METHODS, NETWORKS, STRATEGIES, build, make_batch
from tests.parity.plain import WIDTH, batch_of, pictures, without_network

TOLERANCE = 2e-5
seeds = st.integers(0, 2**31)
# Fewer rows than features, and more.
samples = st.integers(2, 2 * WIDTH)


def total(objective: Objective, views: tuple[Tensor, Tensor]) -> Tensor:
    batch = batch_of(views, pools=("first", "second"))
    return objective(batch, len(batch)).total


def assert_equal_step(ours: Tensor, theirs: Tensor, leaves: tuple[Tensor, ...]) -> None:
    """Compare a loss and its gradient, each by its own size."""
    assert abs(ours - theirs) <= TOLERANCE * max(1, abs(theirs))
    wanted = torch.autograd.grad(theirs, leaves, retain_graph=True)
    for got, want in zip(torch.autograd.grad(ours, leaves, retain_graph=True), wanted, strict=True):
        assert (got - want).abs().max() <= TOLERANCE * max(want.abs().max().item(), 1e-2)


@settings(deadline=None, max_examples=30)
@given(samples=samples, scale=st.sampled_from([0.1, 1.0, 3.0]), seed=seeds)
def test_vicreg(samples: int, scale: float, seed: int) -> None:
    views = pictures(samples, seed, scale)
    theirs = VICRegLoss()(*(view.flatten(1) for view in views))
    assert_equal_step(total(without_network(VICRegConfig(width=WIDTH)), views), theirs, views)


@settings(deadline=None, max_examples=30)
@given(samples=samples, redundancy=st.sampled_from([0.0051, 0.1]), seed=seeds)
def test_barlowtwins(samples: int, redundancy: float, seed: int) -> None:
    views = pictures(samples, seed)
    theirs = BarlowTwinsLoss(redundancy)(*(view.flatten(1) for view in views))
    assert_equal_step(
        total(without_network(BarlowTwinsConfig(width=WIDTH, redundancy=redundancy)), views), theirs, views
    )


def test_coefficients_are_those_of_lightly() -> None:
    views = pictures(20, 3, 0.5)
    config = VICRegConfig(width=WIDTH, invariance=2.0, variance=3.0, covariance=5.0)
    theirs = VICRegLoss(lambda_param=2.0, mu_param=3.0, nu_param=5.0)(*(view.flatten(1) for view in views))
    assert_equal_step(total(without_network(config), views), theirs, views)


def test_a_share_follows_from_the_change_of_the_whole_loss() -> None:
    """Numerically, in double precision: a sample's share moves as the whole loss does if its row weighs more."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 12, 5, generator=generator, dtype=torch.float64)

    def loss(weight_B: Tensor) -> Tensor:
        correlation = (first * weight_B[:, None]).T @ second / len(first)
        eye = torch.eye(5, dtype=torch.bool)
        return (correlation[eye] - 1).square().sum() + 0.1 * correlation[~eye].square().sum()

    ones = torch.ones(12, dtype=torch.float64)
    found = barlowtwins.shares(first, second, 0.1)
    torch.testing.assert_close(found.mean(), loss(ones))
    influence = torch.autograd.functional.jacobian(loss, ones) * len(first)
    torch.testing.assert_close(found - found.mean(), influence - influence.mean())


def test_covariances_are_the_same_by_rows_and_by_features() -> None:
    rows = torch.randn(2, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[0]
    rows = rows - rows.mean(0)
    covariance = rows.T.cov()
    wanted = (covariance.square().sum() - covariance.diagonal().square().sum()) / 9
    torch.testing.assert_close(vicreg.redundancy(rows), wanted)
    tall = torch.cat([rows, -2 * rows])
    covariance = tall.T.cov()
    wanted = (covariance.square().sum() - covariance.diagonal().square().sum()) / 9
    torch.testing.assert_close(vicreg.redundancy(tall), wanted)


FAULTS = {
    "variances in place of deviations": (VICRegConfig, vicreg, "hinge", lambda rows: (1 - rows.var(0)).relu().mean()),
    "covariances with their diagonal": (
        VICRegConfig,
        vicreg,
        "redundancy",
        lambda rows: rows.T.cov().square().sum() / rows.shape[1],
    ),
    "correlations of rows": (
        BarlowTwinsConfig,
        barlowtwins,
        "shares",
        lambda first, second, redundancy: (1 - first * second).square().sum(1),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_breaks_parity(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, module, name, wrong = FAULTS[fault]
    monkeypatch.setattr(module, name, wrong)
    views = pictures(20, 0, 0.5)
    loss = VICRegLoss() if config is VICRegConfig else BarlowTwinsLoss(0.0051)
    with pytest.raises(AssertionError):
        assert_equal_step(
            total(without_network(config(width=WIDTH)), views), loss(*(view.flatten(1) for view in views)), views
        )


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", ["vicreg", "barlowtwins"])
def test_whole_step(method: str, network: str) -> None:
    """A step's loss and the gradient of every weight, against lightly's loss on the same network."""
    assert method in METHODS
    gradients = []
    for oracle in (False, True):
        objective = build(method, STRATEGIES["clean"], network)
        batch = make_batch(objective)
        torch.manual_seed(7)
        if oracle:
            made = objective.method
            embeddings = [made.projector(made.backbone(view.pixels())) for view in batch.views.values()]
            loss = VICRegLoss() if method == "vicreg" else BarlowTwinsLoss(0.0051)
            step = loss(*embeddings)
        else:
            step = objective(batch, len(batch)).total
        step.backward()
        gradients.append((step.detach(), {n: p.grad for n, p in objective.named_parameters()}))
    (ours, our_grads), (theirs, their_grads) = gradients
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)
    size = max(grad.abs().max().item() for grad in their_grads.values() if grad is not None)
    for name, grad in their_grads.items():
        assert grad is not None
        assert (our_grads[name] - grad).abs().max() <= TOLERANCE * size, name
