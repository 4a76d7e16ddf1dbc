"""Treatment of gradients between backward and the optimizer."""

from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from hardviews.methods.method import Method
from hardviews.methods.simclr import SimCLR
from hardviews.optim.optimizer import Optimizer
from hardviews.optim.schedule import Schedule
from tests.train.runs import rows, simclr, train

THAWS = 3


def test_frozen_weights_stay_and_do_not_shorten_others(
    data: str, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = Optimizer("adamw", learning_rate=0.01, weight_decay=0.5, clip=1e-3)
    recipe = replace(simclr(1), optimizer=optimizer, schedule=Schedule(final_weight_decay=1.0))
    monkeypatch.setattr(SimCLR, "frozen", lambda self, clock: (self.projector,) if clock.step < THAWS else ())
    seen: list[tuple[Tensor, bool, float]] = []
    original = Optimizer.limit

    def watched(self: Optimizer, method: Method) -> None:
        weight = method.projector[0].weight
        original(self, method)
        left = sum(float(p.grad.square().sum()) for p in method.parameters() if p.grad is not None) ** 0.5
        seen.append((weight.detach().clone(), weight.grad is None, left))

    monkeypatch.setattr(Optimizer, "limit", watched)
    train(recipe, data, untracked / "run")
    assert [frozen for _, frozen, _ in seen] == [True] * THAWS + [False] * (len(seen) - THAWS)
    still = [bool((weight == seen[0][0]).all()) for weight, _, _ in seen]
    assert still == [True] * (THAWS + 1) + [False] * (len(seen) - THAWS - 1)
    # The remaining gradients have the whole requested length: frozen ones took no share of it.
    assert all(left == pytest.approx(1e-3, rel=1e-3) for _, _, left in seen)


def test_a_rate_by_epochs_is_logged_as_it_is(data: str, untracked: Path) -> None:
    recipe = replace(simclr(2, log_steps=1), schedule=Schedule(per="epoch"))
    rates = {row["epoch"]: row["learning_rate"] for row in rows(train(recipe, data, untracked / "run"))}
    peak = recipe.optimizer.peak(recipe.training.batch)
    # A row is written after its step: the row of epoch 1.0 belongs to the first epoch.
    assert rates == {epoch: pytest.approx(peak if epoch <= 1 else peak / 2) for epoch in rates}
