"""DeepCluster's step against cross-entropy written as the authors do: all crops below one another, labels repeated.

lightly has no loss for it; the formulas here share no code with the method.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hardviews.batch import Batch, Mix, Samples, View
from hardviews.clock import Clock
from hardviews.methods.deepcluster import DeepCluster, DeepClusterConfig
from hardviews.objective.objective import Objective
from hardviews.strategies.strategy import Clean
from hardviews.views.augmentation import Augmentation, Normalisation
from hardviews.views.pixels import Crops
from tests.parity.plain import SIDE, WIDTH
from tests.parity.test_lightly import assert_equal_step

TINY = Augmentation(size=SIDE)
seeds = st.integers(0, 2**31)


def case(
    samples: int, heads: int, clusters: int, locals_: int, temperature: float, seed: int
) -> tuple[Objective, DeepCluster, Batch, tuple[Tensor, ...]]:
    """Return a method whose embedding of a picture is its pixels, with random clusters and a third of labels absent."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    config = DeepClusterConfig(
        output=WIDTH, heads=heads, clusters=clusters, temperature=temperature, locals=locals_, view=TINY, local=TINY
    )
    method = config.build(nn.Flatten(), WIDTH)
    method.projector = nn.Identity()  # type: ignore[assignment]
    objective = Objective(method, Clean()).train()
    method.allocate(2 * samples + clusters)
    method.labels = torch.randint(0, clusters, method.labels.shape, generator=generator)
    method.labels[:, torch.rand(method.labels.shape[1], generator=generator) < 1 / 3] = -100
    normalisation, views, leaves = Normalisation(), {}, []
    for slot in objective.plan.slots:
        pixels = torch.randn(samples, 3, SIDE, SIDE, generator=generator).requires_grad_()
        views[slot] = View(slot, Crops(pixels, normalisation), normalisation, target=slot.pool == "global")
        leaves.append(pixels)
    index = torch.randperm(method.labels.shape[1], generator=generator)[:samples]
    batch = Batch(views, Clock(0, 0, 0, 0, 1), Samples(index, torch.arange(samples)), group=samples)
    return objective, method, batch, tuple(leaves)


@settings(deadline=None, max_examples=30)
@given(
    samples=st.integers(1, 20),
    heads=st.integers(1, 4),
    clusters=st.integers(2, 12),
    locals_=st.integers(0, 6),
    temperature=st.sampled_from([0.1, 0.5, 1.0]),
    seed=seeds,
)
def test_step(samples: int, heads: int, clusters: int, locals_: int, temperature: float, seed: int) -> None:
    objective, method, batch, leaves = case(samples, heads, clusters, locals_, temperature, seed)
    ours = objective(batch, samples).total
    theirs = torch.zeros(())
    criterion = nn.CrossEntropyLoss(ignore_index=-100)
    crops = torch.cat([nn.functional.normalize(leaf.flatten(1), dim=1) for leaf in leaves])
    for head in range(heads):
        targets = method.labels[head][batch.index].repeat(len(leaves))
        if (targets >= 0).any():
            prototypes = nn.Linear(WIDTH, clusters, bias=False)
            prototypes.weight.data.copy_(method.centroids[head])
            theirs = theirs + criterion(prototypes(crops) / temperature, targets) / heads
        else:
            theirs = theirs + 0 * crops.sum()  # the authors' mean over nothing is not a number
    assert_equal_step(ours, theirs, leaves, logit=1 / temperature)


@settings(deadline=None, max_examples=30)
@given(samples=st.integers(2, 12), heads=st.integers(1, 3), weight=st.floats(0, 1), seed=seeds)
def test_mixed_views_predict_mixed_clusters(samples: int, heads: int, weight: float, seed: int) -> None:
    """A view mixed of two images against the distribution that gives each image's cluster its share."""
    objective, method, batch, leaves = case(samples, heads, 7, 1, 0.1, seed)
    partner = torch.arange(samples).roll(1)
    mixes = {
        slot: Mix(partner, torch.full((samples,), weight)) for slot in objective.plan.slots if slot.pool == "global"
    }
    mixed = replace(batch, mixes=mixes)
    ours = objective.reduce(objective.pairwise(mixed)[0])
    valid = objective.valid(mixed)
    labels = method.labels[:, batch.index]
    complete = (labels[0] >= 0) & (labels[0][partner] >= 0)
    assert torch.equal(valid, complete)
    if not complete.any():
        return
    theirs = torch.zeros(samples)
    for number, leaf in enumerate(leaves):
        z = nn.functional.normalize(leaf.flatten(1), dim=1)
        for head in range(heads):
            own = nn.functional.one_hot(labels[head].clamp(min=0), 7).float()
            wanted = weight * own + (1 - weight) * own[partner] if number < 2 else own
            cross = nn.functional.cross_entropy(z @ method.centroids[head].T / 0.1, wanted, reduction="none")
            theirs = theirs + cross / heads / len(leaves)
    assert_equal_step(ours[complete].mean(), theirs[complete].mean(), leaves)


def test_a_fault_breaks_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent labels that count as losses of zero."""
    monkeypatch.setattr(DeepCluster, "valid", lambda self, batch, kind: None)
    with pytest.raises(AssertionError):
        test_step.hypothesis.inner_test(12, 3, 7, 2, 0.1, 0)
