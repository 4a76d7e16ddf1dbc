"""MoCo against lightly's memory bank, and its three readings of mixed labels against explicit soft labels."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NTXentLoss
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from hardviews.batch import Mix
from hardviews.methods.moco import FIRST, MoCo, MoCoConfig
from hardviews.objective.objective import Objective
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.strategy import Clean, Strategy
from tests.parity.plain import WIDTH, batch_of, pictures
from tests.parity.test_lightly import assert_equal_step

TEMPERATURE = 0.2


def without_network(config: MoCoConfig, strategy: Strategy | None = None) -> tuple[Objective, MoCo]:
    """Build MoCo with pixels in place of projections, on both sides."""
    method = replace(config, hidden=8, output=WIDTH).build(nn.Flatten(), WIDTH)
    assert isinstance(method, MoCo)
    method.projector = nn.Identity()  # type: ignore[assignment]
    method.momentum.projector = nn.Identity()
    return Objective(method, strategy or Clean()).train(), method


def memory_bank(method: MoCo) -> NTXentLoss:
    loss = NTXentLoss(temperature=method.config.temperature, memory_bank_size=(method.config.queue, WIDTH))
    # It hands out a copy and then takes the keys in: good for one call.
    loss.memory_bank.bank = method.queue.keys.clone()
    return loss


@settings(deadline=None, max_examples=30)
@given(
    samples=st.integers(1, 40),
    queue=st.integers(1, 50),
    temperature=st.sampled_from([0.07, 0.2, 1.0]),
    symmetric=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_against_lightly(samples: int, queue: int, temperature: float, symmetric: bool, seed: int) -> None:
    torch.manual_seed(seed)
    objective, method = without_network(MoCoConfig(queue=queue, temperature=temperature, symmetric=symmetric))
    views = pictures(samples, seed)
    losses_B = objective.reduce(objective.pairwise(batch_of(views))[0])
    assert losses_B.shape == (samples,)
    first, second = (view.flatten(1) for view in views)
    theirs = memory_bank(method)(first, second.detach())
    if symmetric:
        theirs = (theirs + memory_bank(method)(second, first.detach())) / 2
    assert_equal_step(losses_B.mean(), theirs, views if symmetric else views[:1], logit=1 / temperature)
    if not symmetric:
        assert torch.autograd.grad(losses_B.sum(), views[1], allow_unused=True)[0] is None


def test_a_fault_breaks_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the positive among the candidates the loss is another one."""
    monkeypatch.setattr(torch, "logaddexp", lambda own, queued: queued)
    objective, method = without_network(MoCoConfig(queue=9))
    views = pictures(8, 0)
    ours = objective.reduce(objective.pairwise(batch_of(views))[0]).mean()
    with pytest.raises(AssertionError):
        assert_equal_step(ours, memory_bank(method)(*(v.flatten(1) for v in views)), views[:1])


def soft_label_loss(query: Tensor, candidates: dict[Any, Tensor], label: dict[Any, float]) -> Tensor:
    """Cross-entropy of a label {candidate: weight} over named candidates."""
    logits = torch.stack([cosine_similarity(query, key, dim=0) for key in candidates.values()]) / TEMPERATURE
    target = torch.tensor([label.get(name, 0.0) for name in candidates])
    return cross_entropy(logits, target)


def mixed_by_hand(labels: str, queries: Tensor, keys: Tensor, queue: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    losses = []
    for i, query in enumerate(queries):
        j, w = int(partner[i]), float(weight[i])
        negatives = {f"queue {n}": key for n, key in enumerate(queue)}
        label = {i: w, j: 1 - w} if i != j else {i: 1.0}
        named = {n: share for n, share in label.items() if share}
        if labels == "separate":
            parts = [share * soft_label_loss(query, {n: keys[n]} | negatives, {n: 1.0}) for n, share in named.items()]
            losses.append(torch.stack(parts).sum())
        elif labels == "batch" and 0 < w < 1:
            losses.append(soft_label_loss(query, dict(enumerate(keys)) | negatives, label))
        else:
            losses.append(soft_label_loss(query, {n: keys[n] for n in named} | negatives, label))
    return torch.stack(losses)


@pytest.mark.parametrize("labels", ["joint", "separate", "batch"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    "strategy", [CutMix(), CutMix(scope="sample"), MixUp(scope="sample"), CutMix(fixed=0.3), MixUp(fixed=0.0)], ids=str
)
def test_mixed_labels(labels: Any, symmetric: bool, strategy: Strategy) -> None:
    config = MoCoConfig(queue=7, temperature=TEMPERATURE, mixed_labels=labels, symmetric=symmetric)
    objective, method = without_network(config, strategy)
    views = pictures(12, seed=1)
    losses = objective(batch_of(views), 12)
    ((term, losses_B),) = losses.terms
    assert len(term.batch.mixes) == 1 + symmetric
    wanted = torch.zeros(12)
    for slot, mix in term.batch.mixes.items():
        assert (mix.partner == torch.arange(12)).any(), "some are mixed with themselves"
        mixed = term.batch.hard[slot].pixels().flatten(1)
        keys = views[1 - slot.number].flatten(1).detach()
        found = mixed_by_hand(labels, mixed, keys, method.queue.keys, mix.partner, mix.weight)
        wanted = wanted + found / len(term.batch.mixes)
    torch.testing.assert_close(losses_B, wanted.detach(), rtol=1e-5, atol=1e-5)
    leaves = views if symmetric else views[:1]
    grads = torch.autograd.grad(losses.total, leaves, retain_graph=True)
    for got, want in zip(grads, torch.autograd.grad(wanted.mean(), leaves), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    labels=st.sampled_from(["joint", "batch"]),
    weight=st.floats(0.01, 0.99),
    sharpness=st.sampled_from([0.05, 0.2, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_the_floor(labels: Any, weight: float, sharpness: float, seed: int) -> None:
    """Labels of one softmax cost their entropy at least."""
    entropy = -weight * math.log(weight) - (1 - weight) * math.log(1 - weight)
    objective, _ = without_network(MoCoConfig(queue=5, temperature=sharpness, mixed_labels=labels))
    views = pictures(4, seed)
    mix = Mix(torch.tensor([1, 2, 3, 0]), torch.full((4,), weight))
    losses_B = objective.pairwise(replace(batch_of(views), mixes={FIRST: mix}))[0][0]
    assert losses_B.min() >= entropy - 1e-5


def test_separate_labels_have_no_such_floor() -> None:
    """If both keys are equal, each of the two problems is solved; one softmax cannot separate them."""
    key = normalize(torch.randn(1, WIDTH), dim=1).view(1, 3, 4, 4).expand(4, -1, -1, -1)
    mix = Mix(torch.tensor([1, 2, 3, 0]), torch.full((4,), 0.5))
    found = {}
    for labels in ("joint", "separate"):
        objective, method = without_network(MoCoConfig(queue=5, temperature=0.05, mixed_labels=labels))  # type: ignore[arg-type]
        method.queue.keys.copy_(-key[:1].flatten(1).expand(5, -1))
        found[labels] = objective.pairwise(replace(batch_of((key, key)), mixes={FIRST: mix}))[0][0].max()
    assert found["separate"] < 1e-4
    torch.testing.assert_close(found["joint"], torch.tensor(math.log(2)), rtol=1e-4, atol=1e-4)
