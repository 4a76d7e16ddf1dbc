"""Views without a rival are encoded once, for training, and the score reads that: the choice is the same."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.views.plan import Slot
from tests.laws.cases import build, make_batch, networks

#: Methods with small views, of which none is chosen by default.
MULTI_CROP = ("dino", "ibot", "swav", "deepcluster", "toy_centre")
CASES = [(method, network) for method in MULTI_CROP for network in networks(method)]

every_case = pytest.mark.parametrize(("method", "network"), CASES)


def in_a_step(objective: Objective, batch: Any) -> torch.Tensor:
    hardness = objective(batch, len(batch)).selecting.selection.hardness
    assert isinstance(hardness, torch.Tensor)
    return hardness


def outside(objective: Objective, batch: Any) -> torch.Tensor:
    """Return the hardness without a memory: everything is encoded for scoring alone."""
    (term,) = objective.strategy(batch, objective)
    assert term.batch.selection is not None and term.batch.selection.hardness is not None
    return term.batch.selection.hardness


@pytest.mark.parametrize(
    "strategy",
    [
        HardViews(4),
        HardViews(4, limit=2),
        HardViews(2, local_candidates=4),
        HardViews(4, local_candidates=4, best_locals=True),
        HardViews(4, choose="easiest"),
    ],
    ids=["globals", "some", "locals", "best locals", "easiest"],
)
@every_case
def test_the_choice_is_bit_for_bit_that_of_scoring_alone(method: str, network: str, strategy: HardViews) -> None:
    if strategy.best_locals and method == "deepcluster":
        pytest.skip("its local views do not predict views")
    objective = build(method, strategy, network)
    batch = make_batch(objective)
    with without_noise(objective):
        alone, shared = outside(objective, batch), in_a_step(objective, batch)
    assert torch.equal(alone, shared)


@every_case
def test_noise_of_its_own_is_drawn_by_default(method: str, network: str) -> None:
    if network == "batchnorm":
        pytest.skip("draws nothing")
    batch = make_batch(build(method, HardViews(4), network))

    def hardness(noise: Any) -> torch.Tensor:
        torch.manual_seed(1)
        return in_a_step(build(method, HardViews(4, noise=noise), network), batch)

    torch.manual_seed(1)
    alone = outside(build(method, HardViews(4), network), batch)
    torch.manual_seed(1)
    assert torch.equal(hardness("own"), alone)
    assert not torch.equal(hardness("training"), alone)


@every_case
def test_running_statistics_move_once_for_each_trained_view(method: str, network: str) -> None:
    """As often as without a choice, and by the same views."""
    moved = {}
    for strategy in (Clean(), HardViews(4), HardViews(2, local_candidates=4)):
        objective = build(method, strategy, network)
        objective(make_batch(objective), 8)
        moved[strategy] = {
            name: int(tensor) for name, tensor in objective.state_dict().items() if name.endswith("num_batches_tracked")
        }
        if network == "batchnorm":
            assert all(moved[strategy].values())
    assert len({tuple(counts.items()) for counts in moved.values()}) == 1


@every_case
def test_kept_views_take_the_gradient_of_training(method: str, network: str) -> None:
    """A step on the views that were chosen beforehand has the same gradients."""
    objective, plain = build(method, HardViews(4), network), build(method, Clean(), network)
    batch = make_batch(objective)
    with without_noise(objective), without_noise(plain):
        losses = objective(batch, len(batch))
        losses.total.backward()
        chosen = replace(losses.batch, selection=None)
        again = plain(chosen, len(batch))
        again.total.backward()
    assert torch.equal(losses.total, again.total)
    grads = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in objective.named_parameters():
        other = grads[name]
        assert (parameter.grad is None) == (other is None), name
        if other is not None:
            torch.testing.assert_close(parameter.grad, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["dino", "swav", "toy_centre"])
def test_with_a_size_candidates_alone_are_small(method: str) -> None:
    objective = build(method, HardViews(4, size=8))
    seen: set[int] = set()
    small = {slot.number for slot in objective.plan.slots if slot.pool == "local"}
    batch = make_batch(objective)
    with without_noise(objective):
        objective.method.backbone.register_forward_pre_hook(
            lambda module, args: None if torch.is_grad_enabled() else seen.add(args[0].shape[-1])
        )
        with objective.sharing() as (step, _):
            objective.strategy(batch, objective)
            kept = {view.slot for view in step.trained.online}
            assert all(view.size is None for view in step.trained.online)
    assert kept == {Slot("local", number) for number in small}
    assert seen == {8}


def test_what_the_published_codes_do_is_not_shared() -> None:
    """Joined batches and moved statistics are of scoring: there small views are encoded twice."""
    for settings in ({"normalise": "together"}, {"move_statistics": True}):
        objective = build("toy_centre", HardViews(4, **settings))  # type: ignore[arg-type]
        with objective.sharing() as (step, _):
            objective.strategy(make_batch(objective), objective)
            assert not step.trained.online
