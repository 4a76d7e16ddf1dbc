"""The loss of mixed SimCLR views against soft labels over an explicit list of candidates."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from hardviews.batch import Mix, View
from hardviews.methods.simclr import SimCLRConfig
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.pixels import Crops
from tests.parity.plain import batch_of, pictures, without_network

TEMPERATURE = 0.2


def soft_label_loss(mixed: Tensor, same: Tensor, other: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Return the losses of mixed anchors. Anchor i is mixed from rows i and partner[i] of `same`.

    Its labels are the same two rows of `other`, weighted by their shares. The candidates of a label are all rows of
    both, except that label's own row of `same`.
    """
    losses = []
    for i, anchor in enumerate(mixed):
        loss = torch.zeros((), dtype=mixed.dtype)
        for row, share in ((i, weight[i]), (int(partner[i]), 1 - weight[i])):
            candidates = list(other) + [view for j, view in enumerate(same) if j != row]
            logits = torch.stack([cosine_similarity(anchor, view, dim=0) for view in candidates]) / TEMPERATURE
            loss = loss + share.to(mixed) * cross_entropy(logits, torch.tensor(row))
        losses.append(loss)
    return torch.stack(losses)


@pytest.mark.parametrize(
    "strategy", [CutMix(), CutMix(scope="sample"), MixUp(), MixUp(scope="sample"), CutMix(fixed=0.3)], ids=str
)
def test_mixed_simclr(strategy: Strategy) -> None:
    objective = without_network(SimCLRConfig(temperature=TEMPERATURE), strategy)
    views = pictures(12, seed=1)
    losses = objective(batch_of(views), 12)
    ((term, losses_B),) = losses.terms
    flat = [view.flatten(1) for view in views]
    wanted = torch.zeros(12)
    for slot, mix in term.batch.mixes.items():
        mixed = term.batch.hard[slot].pixels().flatten(1)
        assert not torch.equal(mixed, flat[slot.number])
        same, other = flat[slot.number], flat[1 - slot.number]
        wanted = wanted + 0.5 * soft_label_loss(mixed, same, other, mix.partner, mix.weight)
    assert len(term.batch.mixes) == 2
    torch.testing.assert_close(losses_B, wanted.detach(), rtol=1e-6, atol=1e-6)
    grads = torch.autograd.grad(losses.total, views, retain_graph=True)
    for got, want in zip(grads, torch.autograd.grad(wanted.mean(), views), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-7)


def test_a_view_that_shows_the_partner_alone_has_the_partners_loss() -> None:
    objective = without_network(SimCLRConfig(temperature=TEMPERATURE), Clean())
    views = pictures(6, seed=2)
    batch = batch_of(views, group=3)
    clean = objective(batch, 6).terms[0][1]
    partner = torch.tensor([1, 2, 0, 4, 5, 3])
    hard, mixes = {}, {}
    for slot, view in batch.views.items():
        hard[slot] = View(slot, Crops(view.pixels()[partner], view.normalisation), view.normalisation)
        mixes[slot] = Mix(partner, torch.zeros(6))
    mixed = objective.reduce(objective.pairwise(replace(batch, hard=hard, mixes=mixes))[0])
    torch.testing.assert_close(mixed, clean[partner])


def test_two_images_that_are_mixed_have_no_negatives() -> None:
    objective = without_network(SimCLRConfig(temperature=TEMPERATURE), MixUp(fixed=0.3))
    views = pictures(2, seed=3)
    losses = objective(batch_of(views, group=2), 2)
    assert losses.total.isfinite()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(losses.total, views))
