"""BYOL's target network: how it follows, its input, and that it takes no gradient."""

from dataclasses import replace
from math import cos, pi

import pytest
import torch
from torch import nn

from hardviews.errors import UserError
from hardviews.methods.byol import BYOL, FIRST, SECOND, BYOLConfig
from hardviews.models.batchnorm import BranchedBatchNorm
from hardviews.objective.objective import Objective
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import byol_first, byol_second
from hardviews.views.plan import Slot
from tests.laws.cases import STRATEGIES, build, make_batch, train_step


def byol(strategy: Strategy | None = None, network: str = "batchnorm") -> tuple[Objective, BYOL]:
    objective = build("byol", strategy or Clean(), network)
    assert isinstance(objective.method, BYOL)
    return objective, objective.method


def test_the_defaults_are_the_published_ones() -> None:
    method = BYOLConfig().build(nn.Flatten(), 48)
    assert isinstance(method, BYOL)
    for head, inside in ((method.projector, 48), (method.predictor, 256)):
        shapes = [tuple(m.weight.shape) for m in head if isinstance(m, nn.Linear)]
        assert shapes == [(4096, inside), (256, 4096)]
        assert [type(layer) for layer in head][1:3] == [nn.BatchNorm1d, nn.ReLU]
        assert len(head) == 4
        assert head[-1].bias is None
    assert [(p.name, p.slots, p.augmentation) for p in method.plan().pools] == [
        ("first", 1, byol_first()),
        ("second", 1, byol_second()),
    ]
    assert [pair.weight for pair in method.pairs()] == [1.0, 1.0]


def test_a_momentum_outside_its_range_is_refused() -> None:
    with pytest.raises(UserError, match=r"^method\.momentum is "):
        BYOLConfig(momentum=1.5)


@pytest.mark.parametrize("strategy", ["clean", "everything"])
def test_the_target_follows_the_weights_after_the_step(strategy: str) -> None:
    objective, method = byol(STRATEGIES[strategy])
    before = {name: weight.clone() for name, weight in method.momentum.named_parameters()}
    batch = make_batch(objective)
    batch = replace(batch, clock=replace(batch.clock, progress=400))
    train_step(objective, batch)
    share = 0.004 * 0.5 * (1 + cos(pi * 0.5))
    online = dict(method.named_parameters())
    assert set(before) < set(online)
    assert not any("adversarial" in name for name in before)
    for name, weight in method.momentum.named_parameters():
        torch.testing.assert_close(weight, before[name] + share * (online[name] - before[name]))
        assert not torch.equal(online[name], before[name])


def test_at_the_end_the_target_stands_still() -> None:
    objective, method = byol()
    before = {name: weight.clone() for name, weight in method.momentum.named_parameters()}
    batch = make_batch(objective)
    train_step(objective, replace(batch, clock=replace(batch.clock, progress=batch.clock.total)))
    assert all(torch.equal(weight, before[name]) for name, weight in method.momentum.named_parameters())


def test_the_target_takes_no_gradient_and_keeps_its_own_statistics() -> None:
    objective, method = byol()
    norms = [m for m in method.momentum.modules() if isinstance(m, BranchedBatchNorm)]
    assert norms
    assert all(norm.training for norm in norms)
    train_step(objective, make_batch(objective))
    assert all(weight.grad is None and not weight.requires_grad for weight in method.momentum.parameters())
    for name, norm in method.momentum.named_modules():
        if isinstance(norm, BranchedBatchNorm):
            other = method.get_submodule(name)
            assert isinstance(other, BranchedBatchNorm)
            # Each of the two views moved them once, in the target network as in the online one.
            assert int(norm.num_batches_tracked) == int(other.num_batches_tracked) == 2
            assert norm.running_mean is not None and norm.running_mean is not other.running_mean
            assert norm.running_mean.abs().max() > 0


def test_every_online_weight_takes_a_gradient() -> None:
    objective, method = byol()
    batch = make_batch(objective)
    objective(batch, len(batch)).total.backward()
    assert all(weight.grad is not None for weight in method.parameters() if weight.requires_grad)


def test_a_selection_keeps_one_view_of_each_kind() -> None:
    objective, _ = byol(HardViews(4))
    assert [(pool.name, pool.candidates) for pool in objective.plan.pools] == [("first", 2), ("second", 2)]
    assert len(objective.plan.assignments(objective.pairs)) == 4
    batch = make_batch(objective)
    (term,) = objective.strategy(batch, objective)
    for slot in (FIRST, SECOND):
        kind = [batch.views[Slot(slot.pool, k)].pixels() for k in range(2)]
        chosen = term.batch.views[slot].pixels()
        assert all(any(torch.equal(row, other[i]) for other in kind) for i, row in enumerate(chosen))


def test_the_online_encoding_is_one_that_the_meter_reads() -> None:
    objective, _ = byol()
    batch = make_batch(objective)
    losses = objective(batch, len(batch))
    assert losses.encoded.online[FIRST].shape == (8, 8)
    ((_, losses_B),) = losses.terms
    assert losses_B.min() >= 0
    assert losses_B.max() <= 8  # two directions of 2 - 2 cos
