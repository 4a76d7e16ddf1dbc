"""BYOL against lightly's negative cosine similarity, and against squared distances of unit vectors."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NegativeCosineSimilarity
from torch import Tensor, nn

from hardviews.batch import Batch
from hardviews.methods.byol import BYOL, FIRST, SECOND, BYOLConfig
from hardviews.objective.objective import Objective
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.plan import Pair
from tests.laws.cases import NETWORKS, build, make_batch
from tests.parity.plain import WIDTH, batch_of, pictures
from tests.parity.test_lightly import TOLERANCE, assert_equal_step


def without_network(seed: int, strategy: Strategy | None = None) -> Objective:
    """Return BYOL with pixels in place of features, and linear heads that differ online and in the target."""
    torch.manual_seed(seed)
    method = BYOLConfig(hidden=4, output=4).build(nn.Flatten(), WIDTH)
    assert isinstance(method, BYOL)
    method.projector, method.predictor = nn.Linear(WIDTH, 6), nn.Linear(6, 6)  # type: ignore[assignment]
    method.momentum.projector = nn.Linear(WIDTH, 6).requires_grad_(False)
    return Objective(method, strategy or Clean()).train()


def views_of(pixels: tuple[Tensor, Tensor]) -> Batch:
    batch = batch_of(pixels)
    views = {new: replace(view, slot=new) for new, view in zip((FIRST, SECOND), batch.views.values(), strict=True)}
    return replace(batch, views=views)


@settings(deadline=None, max_examples=30)
@given(samples=st.integers(1, 40), scale=st.sampled_from([0.1, 1.0, 30.0]), seed=st.integers(0, 2**31))
def test_loss(samples: int, scale: float, seed: int) -> None:
    objective = without_network(seed)
    method = objective.method
    assert isinstance(method, BYOL)
    views = pictures(samples, seed, scale)
    losses_B = objective.reduce(objective.pairwise(views_of(views))[0])
    assert losses_B.shape == (samples,)
    flat = [view.flatten(1) for view in views]
    predicted = [method.predictor(method.projector(z)) for z in flat]
    shown = [method.momentum.get_submodule("projector")(z).detach() for z in flat]
    cosine = NegativeCosineSimilarity()
    theirs = 4 + 2 * (cosine(predicted[0], shown[1]) + cosine(predicted[1], shown[0]))
    leaves = (*views, method.predictor.weight, method.projector.weight)
    assert_equal_step(losses_B.mean(), theirs, leaves)

    def unit(rows: Tensor) -> Tensor:
        return rows / rows.pow(2).sum(1, keepdim=True).sqrt()

    squares = [(unit(p) - unit(t)).pow(2).sum(1) for p, t in ((predicted[0], shown[1]), (predicted[1], shown[0]))]
    torch.testing.assert_close(losses_B, squares[0] + squares[1], rtol=1e-5, atol=1e-5)


def test_a_fault_breaks_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the sum of the directions is another loss."""
    pairs = BYOL.pairs
    monkeypatch.setattr(BYOL, "pairs", lambda self: tuple(Pair(p.online, p.target, p.weight / 2) for p in pairs(self)))
    with pytest.raises(AssertionError):
        test_loss.hypothesis.inner_test(8, 1.0, 0)  # type: ignore[attr-defined]


def test_mixed_cosines() -> None:
    """The label of a mixed view: 2 - 2 (w cos_i + (1 - w) cos_j)."""
    objective = without_network(3, MixUp(scope="sample"))
    method = objective.method
    assert isinstance(method, BYOL)
    views = pictures(8, 3)
    losses = objective(views_of(views), 8)
    ((term, losses_B),) = losses.terms
    wanted = torch.zeros(8)
    for slot, mix in term.batch.mixes.items():
        other = next(s for s in term.batch.views if s != slot)
        shown = method.momentum.get_submodule("projector")(term.batch.views[other].pixels().flatten(1))
        predicted = method.predictor(method.projector(term.batch.hard[slot].pixels().flatten(1)))
        for i in range(8):
            own = torch.cosine_similarity(predicted[i], shown[i], dim=0)
            strange = torch.cosine_similarity(predicted[i], shown[mix.partner[i]], dim=0)
            wanted[i] += 2 - 2 * (mix.weight[i] * own + (1 - mix.weight[i]) * strange).detach()
    assert len(term.batch.mixes) == 2
    torch.testing.assert_close(losses_B, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_whole_step(network: str) -> None:
    gradients = []
    for oracle in (False, True):
        objective = build("byol", Clean(), network)
        batch = make_batch(objective)
        method = objective.method
        assert isinstance(method, BYOL)
        torch.manual_seed(7)
        if oracle:
            v0, v1 = (view.pixels() for view in batch.views.values())
            p0, p1 = (method.predictor(method.projector(method.backbone(v))) for v in (v0, v1))
            target = nn.Sequential(method.momentum.backbone, method.momentum.projector)  # type: ignore[arg-type]
            with torch.no_grad():
                z0, z1 = target(v0), target(v1)
            cosine = NegativeCosineSimilarity()
            total = 4 + 2 * (cosine(p0, z1) + cosine(p1, z0))
        else:
            total = objective(batch, len(batch)).total
        total.backward()
        gradients.append((total.detach(), {n: p.grad for n, p in objective.named_parameters() if p.requires_grad}))
    (ours, our_grads), (theirs, their_grads) = gradients
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)
    size = max(grad.abs().max().item() for grad in their_grads.values() if grad is not None)
    for name, grad in their_grads.items():
        ours_ = our_grads[name]
        assert grad is not None and ours_ is not None
        assert (ours_ - grad).abs().max() <= 10 * TOLERANCE * size, name
