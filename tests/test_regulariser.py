"""A part of the loss without a value per sample: the terms that contain it, and its weight."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hardviews.batch import Batch
from hardviews.methods.simsiam import SimSiam, SimSiamConfig
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.compose import Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.meter import Meter
from hardviews.train.nonfinite import traces
from hardviews.views.plan import Pair, Slot
from tests.laws.cases import VIEW, ConvNet, build, make_batch, rows_of


class Spread(SimSiam):
    """SimSiam, whose targets take no gradient, with the variance of its predictions; counts how often that is made."""

    weight = 10.0
    asked = 0

    def regulariser(
        self, batch: Batch, online: Mapping[Slot, Any], target: Mapping[Slot, Any], pairs: Sequence[Pair]
    ) -> Tensor:
        assert not batch.hard and not batch.mixes
        self.asked += 1
        return self.weight * torch.stack([rows.var(0).mean() for rows in online.values()]).sum()


def regularised(strategy: Strategy, weight: float = 10.0) -> Objective:
    torch.manual_seed(0)
    method = Spread(SimSiamConfig(width=16, layers=2, bottleneck=8, view=VIEW), ConvNet(), 12)
    method.weight = weight
    return Objective(method, strategy).train()


STRATEGIES: dict[str, tuple[Strategy, float, int]] = {
    "clean": (Clean(), 1.0, 1),
    "chosen": (HardViews(4), 1.0, 1),
    "attacked alone": (Adversarial(4 / 255), 1.0, 1),
    "mixed alone": (CutMix(), 1.0, 1),
    "all": (Sum((1.0, Clean()), (0.5, Adversarial(4 / 255)), (0.25, CutMix(pairs="hard"))), 1.75, 1),
    "along the clean gradient": (Sum((1.0, Clean()), (0.5, Adversarial(4 / 255, gradient="clean"))), 1.5, 1),
    "averaged": (Sum((1.0, Clean()), (3.0, CutMix()), average=True), 1.0, 1),
    "all pairs": (AllPairs(4), 1.0, 6),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_is_added_once_for_all_terms_at_the_sum_of_their_weights(name: str) -> None:
    """Losses by term, hardness and attacked pixels are those without it; value and gradient are the sum."""
    strategy, weight, asked = STRATEGIES[name]
    with_it, without = regularised(strategy), regularised(strategy, weight=0.0)
    batch = make_batch(with_it)
    found, plain = with_it(batch, len(batch)), without(batch, len(batch))
    assert with_it.method.asked == asked
    for (term, losses_B), (other, wanted_B) in zip(found.terms, plain.terms, strict=True):
        assert torch.equal(losses_B, wanted_B)
        for slot, view in term.batch.hard.items():
            assert torch.equal(view.pixels(), other.batch.hard[slot].pixels())
        if term.batch.selection is not None:
            assert torch.equal(term.batch.selection.hardness, other.batch.selection.hardness)  # type: ignore[union-attr]
    torch.testing.assert_close(found.total.detach(), plain.total.detach() + weight * found.regulariser)

    alone = regularised(strategy)
    with alone.sharing():
        (term, *_) = alone.strategy(batch, alone)
        rows = range(1 if term.assignments is None else len(term.assignments))
        encoded = [alone._assigned(term, row) for row in rows]
        extra = torch.stack([alone.method.regulariser(batch, e.online, e.target, alone.pairs) for e in encoded]).mean()  # type: ignore[misc]
    (weight * extra).backward()
    found.total.backward()
    plain.total.backward()
    for (key, parameter), base, added in zip(
        with_it.named_parameters(), without.parameters(), alone.parameters(), strict=True
    ):
        wanted = [p.grad for p in (base, added) if p.grad is not None]
        assert (parameter.grad is not None) == bool(wanted), key
        if wanted:
            torch.testing.assert_close(parameter.grad, sum(wanted), rtol=1e-4, atol=1e-5)


def test_a_method_without_one_is_not_asked() -> None:
    objective = build("simsiam", Clean())
    assert not objective.method.regularised
    assert objective(make_batch(objective), 8).regulariser is None


def test_micro_batches_count_by_their_share() -> None:
    """Two thirds of a batch have two thirds of their regulariser; each is a batch of its own."""
    whole = regularised(Clean())
    batch = make_batch(whole, samples=12)
    parts = [rows_of(batch, slice(0, 8)), rows_of(batch, slice(8, 12))]
    totals, wanted = [], []
    for part, share in zip(parts, (2 / 3, 1 / 3), strict=True):
        losses = regularised(Clean())(part, 12)
        totals.append(losses.total.detach())
        wanted.append(share * (losses.terms[0][1].mean() + losses.regulariser))
    torch.testing.assert_close(torch.stack(totals).sum(), torch.stack(wanted).sum())


def test_it_is_measured() -> None:
    objective = regularised(Clean())
    losses = objective(make_batch(objective), 8)
    meter = Meter(torch.device("cpu"))
    meter.add_losses(losses, objective.pairs)
    report = meter.report()
    assert report["loss/regulariser"] == pytest.approx(float(losses.regulariser))
    assert report["loss/clean"] + report["loss/regulariser"] == pytest.approx(losses.total.item())


def test_one_that_is_not_finite_is_of_all_its_samples() -> None:
    objective = regularised(Clean(), weight=float("inf"))
    losses = objective(make_batch(objective), 8)
    (trace,) = traces(losses)
    assert losses.terms[0][1].isfinite().all()
    assert not trace.losses.isfinite().any()


@pytest.mark.parametrize("method", ["vicreg", "barlowtwins"])
def test_an_image_alone_is_refused(method: str) -> None:
    assert build(method, Clean()).method.needs_others


def test_features_that_are_alike_are_driven_apart() -> None:
    """VICReg's regulariser alone, by gradient descent: deviations rise to 1, correlations fall to 0."""
    objective = build("vicreg", Clean())
    method = objective.method
    generator = torch.Generator().manual_seed(0)
    rows = nn.Parameter(torch.randn(64, 1, generator=generator) + 0.01 * torch.randn(64, 6, generator=generator))
    optimizer = torch.optim.Adam([rows], 0.05)
    slots = [pair.online for pair in objective.pairs]
    for _ in range(300):
        optimizer.zero_grad()
        loss = method.regulariser(make_batch(objective), dict.fromkeys(slots, rows), {}, ())
        assert loss is not None
        loss.backward()
        optimizer.step()
    correlation = rows.detach().T.corrcoef() - torch.eye(6)
    assert correlation.abs().max() < 0.05
    assert (rows.detach().std(0) > 0.95).all()
