"""Per-sample losses average to lightly's, value and gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from torch import Tensor

from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.simsiam import SimSiam, SimSiamConfig
from tests.laws.cases import METHODS, NETWORKS, build, make_batch
from tests.laws.cases import STRATEGIES as CASES
from tests.parity.plain import WIDTH, batch_of, pictures, without_network

TOLERANCE = 5e-7
seeds = st.integers(0, 2**31)


def assert_equal_step(ours: Tensor, theirs: Tensor, leaves: tuple[Tensor, ...], logit: float = 1.0) -> None:
    """Compare a loss and its gradient, each by its own size, and that of the largest logit its rounding comes from."""
    assert abs(ours - theirs) <= TOLERANCE * max(logit, abs(theirs))
    wanted = torch.autograd.grad(theirs, leaves, retain_graph=True)
    for got, want in zip(torch.autograd.grad(ours, leaves, retain_graph=True), wanted, strict=True):
        assert (got - want).abs().max() <= TOLERANCE * max(logit, want.abs().max().item())


@settings(deadline=None, max_examples=30)
@given(samples=st.integers(2, 40), temperature=st.sampled_from([0.1, 0.2, 0.5, 1.0]), seed=seeds)
def test_simclr(samples: int, temperature: float, seed: int) -> None:
    objective = without_network(SimCLRConfig(temperature=temperature))
    views = pictures(samples, seed)
    losses_B = objective.reduce(objective.pairwise(batch_of(views))[0])
    assert losses_B.shape == (samples,)
    theirs = NTXentLoss(temperature=temperature)(*(view.flatten(1) for view in views))
    assert_equal_step(losses_B.mean(), theirs, views, logit=1 / temperature)


def test_a_fault_breaks_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the negatives of an anchor's own view, the loss is another one."""
    monkeypatch.setattr(torch, "logaddexp", lambda across, same: across)
    objective = without_network(SimCLRConfig())
    views = pictures(8, 0)
    ours = objective.reduce(objective.pairwise(batch_of(views))[0]).mean()
    with pytest.raises(AssertionError):
        assert_equal_step(ours, NTXentLoss(temperature=0.1)(*(view.flatten(1) for view in views)), views)


@settings(deadline=None, max_examples=30)
@given(samples=st.integers(1, 40), scale=st.sampled_from([0.1, 1.0, 30.0]), seed=seeds)
def test_simsiam(samples: int, scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    objective = without_network(SimSiamConfig(width=WIDTH, bottleneck=8))
    method = objective.method
    assert isinstance(method, SimSiam)
    method.predictor = torch.nn.Linear(WIDTH, WIDTH)
    views = pictures(samples, seed, scale)
    losses_B = objective.reduce(objective.pairwise(batch_of(views))[0])
    z0, z1 = (view.flatten(1) for view in views)
    cosine = NegativeCosineSimilarity()
    theirs = (cosine(method.predictor(z0), z1.detach()) + cosine(method.predictor(z1), z0.detach())) / 2
    assert_equal_step(losses_B.mean(), theirs, (*views, method.predictor.weight))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", ["simclr", "simsiam"])
def test_whole_step(method: str, network: str) -> None:
    """A step's loss and the gradient of every weight, against lightly's loss on the same network."""
    assert method in METHODS
    gradients = []
    for oracle in (False, True):
        objective = build(method, CASES["clean"], network)
        batch = make_batch(objective)
        torch.manual_seed(7)
        total = lightly_loss(objective.method, batch) if oracle else objective(batch, len(batch)).total
        total.backward()
        gradients.append((total.detach(), {n: p.grad for n, p in objective.named_parameters()}))
    (ours, our_grads), (theirs, their_grads) = gradients
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)
    size = max(grad.abs().max().item() for grad in their_grads.values() if grad is not None)
    for name, grad in their_grads.items():
        assert grad is not None
        assert (our_grads[name] - grad).abs().max() <= 10 * TOLERANCE * size, name


def lightly_loss(method: torch.nn.Module, batch) -> Tensor:  # type: ignore[no-untyped-def]
    z0, z1 = (method.projector(method.backbone(view.pixels())) for view in batch.views.values())
    if not isinstance(method, SimSiam):
        return NTXentLoss(temperature=method.config.temperature)(z0, z1)
    cosine = NegativeCosineSimilarity()
    return (cosine(method.predictor(z0), z1.detach()) + cosine(method.predictor(z1), z0.detach())) / 2
