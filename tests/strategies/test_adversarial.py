"""Attacks: their published defaults, their bound, and that they make real pictures harder."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hardviews.batch import Batch, View
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.strategy import Strategy
from hardviews.views.augmentation import Normalisation
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot
from tests.laws.cases import NETWORKS, build, make_batch, train_step
from tests.strategies.photographs import crops

IMAGENET = Normalisation()


def attacked(attack: Adversarial, method: str = "simsiam") -> tuple[Objective, Batch, dict[Slot, Tensor]]:
    """Return the objective, its batch, and the attacked pixels in [0, 1]."""
    objective = build(method, attack)
    batch = make_batch(objective)
    with objective.sharing():
        (term,) = objective.strategy(batch, objective)
    return objective, batch, {s: IMAGENET.denormalise(v.pixels()) for s, v in term.batch.hard.items()}


def test_defaults() -> None:
    attack = Adversarial()
    assert (attack.epsilon, attack.steps, attack.branch, attack.every) == (2 / 255, 1, "adversarial", 1)


def test_bounds_in_normalised_units() -> None:
    """The figures of ImageNet's statistics: range of pixels, and 2, 4 and 8 / 255."""
    like = torch.zeros(1)
    assert IMAGENET.low(like).flatten().tolist() == pytest.approx([-2.118, -2.036, -1.804], abs=5e-4)
    assert IMAGENET.high(like).flatten().tolist() == pytest.approx([2.249, 2.429, 2.640], abs=5e-4)
    for levels, radii in ((2, (0.0342, 0.0350, 0.0349)), (4, (0.0685, 0.0700, 0.0697)), (8, (0.137, 0.140, 0.139))):
        digits = 5e-4 if levels == 8 else 5e-5
        assert IMAGENET.radius(levels / 255, like).flatten().tolist() == pytest.approx(radii, abs=digits)


def test_one_step_is_the_exact_sign_step() -> None:
    """FGSM: zero start, step epsilon in pixels of [0, 1], clipped to the valid range, on the summed loss."""
    epsilon = 2 / 255
    objective, batch, pixels = attacked(Adversarial(epsilon))
    leaves = {s: batch.views[s].pixels().requires_grad_() for s in objective.plan.slots}
    views = {s: replace(batch.views[s], source=Crops(leaf, IMAGENET)) for s, leaf in leaves.items()}
    hard = {s: replace(view, branch="adversarial") for s, view in views.items()}
    losses, _ = objective.pairwise(replace(batch, hard=hard), attack=True)
    grads = torch.autograd.grad(objective.reduce(losses).sum(), list(leaves.values()))
    for (slot, leaf), grad in zip(leaves.items(), grads, strict=True):
        clean = IMAGENET.denormalise(leaf.detach())
        wanted = (clean + epsilon * grad.sign()).clamp(0, 1)
        torch.testing.assert_close(pixels[slot], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("attack", "step"),
    [
        (Adversarial(8 / 255), 8 / 255),
        (Adversarial(8 / 255, steps=2), 4 / 255),
        (Adversarial(2 / 255, steps=5), 1 / 255),  # never below one level
        (Adversarial(8 / 255, steps=4, step_size=3 / 255), 3 / 255),
    ],
)
def test_step_sizes(attack: Adversarial, step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epsilon for one step, else max(epsilon / steps, 1 / 255)."""
    asked = []
    radius = Normalisation.radius
    monkeypatch.setattr(Normalisation, "radius", lambda self, e, like: asked.append(e) or radius(self, e, like))
    attacked(attack)
    assert {e for e in asked if e != attack.epsilon} == ({step} - {attack.epsilon})
    assert step in asked


def start_of(attack: Adversarial, seed: int = 0) -> tuple[Tensor, Tensor]:
    objective = build("simsiam", attack)
    batch = make_batch(objective, samples=32, seed=seed)
    slot = objective.plan.slots[0]
    clean = batch.views[slot].pixels()
    start = attack._start(clean, batch, slot, objective.plan.view_number(slot))
    return IMAGENET.denormalise(clean), IMAGENET.denormalise(start)


def test_one_step_starts_at_the_view_and_more_start_uniformly() -> None:
    clean, start = start_of(Adversarial())
    assert torch.equal(clean, start)
    epsilon = 8 / 255
    clean, start = start_of(Adversarial(epsilon, steps=2))
    inside = (clean > epsilon) & (clean < 1 - epsilon)
    moved = ((start - clean) / epsilon)[inside]
    # Uniform in [-1, 1]: mean 0, deviation 1 / sqrt(3).
    assert moved.abs().max() <= 1 + 1e-4
    assert moved.mean().abs() < 0.02
    assert (moved.std() - 3**-0.5).abs() < 0.02
    clean, other = start_of(Adversarial(epsilon, steps=2), seed=1)
    assert not torch.allclose(start, other)


@settings(deadline=None, max_examples=20)
@given(
    levels=st.integers(0, 64),
    steps=st.integers(1, 3),
    size=st.none() | st.floats(0.001, 0.5),
    start=st.sampled_from([None, "view", "uniform"]),
    branch=st.sampled_from(["main", "adversarial"]),
)
def test_any_attack_keeps_its_bound(levels: int, steps: int, size: float | None, start: Any, branch: Any) -> None:
    attack = Adversarial(levels / 255, steps, size, start, branch)
    _, batch, pixels = attacked(attack)
    assert bool(pixels) == (levels > 0 or branch == "adversarial")
    for slot, now in pixels.items():
        before = IMAGENET.denormalise(batch.views[slot].pixels())
        assert (now - before).abs().max() <= levels / 255 + 1e-6
        assert now.min() >= -1e-6
        assert now.max() <= 1 + 1e-6


def test_an_attack_touches_no_gradient_and_no_state() -> None:
    objective = build("simclr", Adversarial(4 / 255, steps=2))
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    batch = make_batch(objective)
    objective.strategy(batch, objective)
    assert all(parameter.grad is None for parameter in objective.parameters())
    for name, tensor in objective.state_dict().items():
        assert torch.equal(before[name], tensor), name


def test_statistics_of_attacked_views_stay_apart() -> None:
    """A step moves the main statistics by the clean views alone, and the adversarial ones by the attacked alone."""
    after = {}
    for strategy in (None, Adversarial(8 / 255), Adversarial(8 / 255, steps=3)):
        chosen: Strategy = strategy or Adversarial(0.0, branch="main")
        objective = build("simsiam", chosen)
        train_step(objective, make_batch(objective), lr=0.0)
        after[strategy] = objective.state_dict()
    plain = after.pop(None)
    for strategy, state in after.items():
        for name, tensor in plain.items():
            assert torch.equal(state[name], tensor), name
        # Two attacked views: the running statistics moved twice, whatever the steps of the attack.
        counts = [t.item() for n, t in state.items() if "adversarial.num_batches" in n]
        assert set(counts) == {2.0}, strategy


ATTACKS = pytest.mark.parametrize("attack", [Adversarial(), Adversarial(8 / 255, steps=3)], ids=["fgsm", "pgd"])


@ATTACKS
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", ["simsiam", "simclr", "toy_queue"])
def test_photographs_become_harder(method: str, network: str, attack: Adversarial) -> None:
    """On views of photographs, after a few steps of training, an attack raises the loss of 95 % of the samples.

    In training mode under the statistics that the attack holds, and in evaluation under the running ones.
    """
    objective = trained(method, network, attack)
    batch = photographs(objective, 10)
    assert (gain(objective, attack, batch) > 0).double().mean() >= 0.95
    with objective.sharing():
        (term,) = replace(attack, measure=1)(batch, objective)
    assert term.raised is not None
    assert term.raised.double().mean() >= 0.95
    assert (gain(objective.eval(), attack, batch) > 0).double().mean() >= 0.95


@ATTACKS
@pytest.mark.parametrize("method", ["moco", "deepcluster"])
def test_the_methods_of_hexa_find_photographs_harder(method: str, attack: Adversarial) -> None:
    """The queue's normalisation by groups, and the clusters of several heads at once."""
    objective = trained(method, "batchnorm", attack)
    batch = photographs(objective, 10)
    assert (gain(objective, attack, batch) > 0).double().mean() >= 0.95


def test_moco_on_a_transformer_finds_photographs_harder() -> None:
    """In double precision: ten such steps leave queries alike but for 1e-7, and single precision rounds gains to 0."""
    attack = Adversarial()
    objective = trained("moco", "vit", attack).double()
    batch = photographs(objective, 10)
    sources = {slot: Crops(view.pixels().double(), IMAGENET) for slot, view in batch.views.items()}
    views = {slot: replace(view, source=sources[slot]) for slot, view in batch.views.items()}
    assert (gain(objective, attack, replace(batch, views=views)) > 0).double().mean() >= 0.95


def test_running_statistics_raise_the_loss_that_evaluation_sees() -> None:
    attack = Adversarial(statistics="running")
    objective = trained("simsiam", "batchnorm", attack)
    batch = photographs(objective, 10)
    assert (gain(objective, attack, batch) > 0).double().mean() >= 0.95


def test_a_gradient_through_the_batchs_statistics_lowers_the_loss_of_many() -> None:
    """The purpose of held statistics: the fault that breaks the test above."""
    attack = Adversarial(8 / 255, statistics="batch")
    objective = trained("simsiam", "batchnorm", attack)
    assert (gain(objective, attack, photographs(objective, 10)) > 0).double().mean() < 0.95


def test_under_held_statistics_a_view_depends_on_itself_alone() -> None:
    """Two samples' pixels have no part in the loss of a third one, in any pass of an attack."""
    objective = build("simsiam", Adversarial(4 / 255, steps=2))
    batch = make_batch(objective)
    with objective.sharing():
        (term,) = objective.strategy(batch, objective)
        leaves = {slot: view.pixels().detach().requires_grad_() for slot, view in term.batch.hard.items()}
        hard = {s: replace(v, source=Crops(leaves[s], IMAGENET)) for s, v in term.batch.hard.items()}
        losses_PB, _ = objective.pairwise(replace(term.batch, hard=hard), attack=True)
    for grad in torch.autograd.grad(losses_PB[:, 3].sum(), list(leaves.values())):
        rows = grad.flatten(1).abs().amax(1)
        assert rows[3] > 0
        assert rows.sum() == rows[3]


def trained(method: str, network: str, attack: Adversarial) -> Objective:
    objective = build(method, attack, network)
    for step in range(10):
        train_step(objective, photographs(objective, step), lr=0.05)
    return objective


def gain(objective: Objective, attack: Adversarial, batch: Batch) -> Tensor:
    """Return by how much the attack raises the loss of each sample that has one."""
    with objective.sharing():
        (term,) = attack(batch, objective)
        still = {s: replace(v, source=Crops(batch.views[s].pixels(), IMAGENET)) for s, v in term.batch.hard.items()}
        with torch.no_grad():
            hard, _ = objective.pairwise(term.batch, attack=True)
            easy, _ = objective.pairwise(replace(batch, hard=still), attack=True)
    gain_B = objective.reduce(hard) - objective.reduce(easy)
    valid_B = objective.valid(batch)
    return gain_B if valid_B is None else gain_B[valid_B]


def photographs(objective: Objective, step: int, samples: int = 64) -> Batch:
    template = make_batch(objective, samples, step=step)
    views: dict[Slot, View] = {}
    for slot in objective.plan.candidates:
        number = objective.plan.view_number(slot)
        pixels = crops(samples, seed=step * 10 + number)
        views[slot] = replace(template.views[slot], source=Crops(pixels, IMAGENET))
    return replace(template, views=views)
