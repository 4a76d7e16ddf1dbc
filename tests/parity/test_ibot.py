"""iBOT against lightly's losses, with masked tokens, outputs and labels written out on the test's side."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import DINOLoss, IBOTPatchLoss
from torch import Tensor, nn
from torch.nn.functional import normalize

from hardviews.batch import Batch
from hardviews.methods import ibot
from hardviews.methods.dino import EVEN, ODD
from hardviews.methods.ibot import IBOT, IBOTConfig
from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import Augmentation
from hardviews.views.masks import BlockMasks
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot
from tests.laws.cases import make_batch, vit

SIDE = 4  # patches of a full-size view


def build(strategy: Strategy | None = None, **options: object) -> tuple[Objective, IBOT, Batch]:
    """Build iBOT in double precision with another teacher than the student and centres that are not 0."""
    torch.manual_seed(3)
    view, local = Augmentation(size=8 * SIDE), Augmentation(size=16)
    config = IBOTConfig(hidden=12, bottleneck=6, outputs=9, locals=1, even=view, odd=view, local=local)
    method = replace(config, **options).build(vit(), 32)  # type: ignore[arg-type]
    nn.init.normal_(method.mask_token)
    for parameter in method.momentum.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    for centre in (method.centre, method.patch_centre):
        nn.init.normal_(centre.mean, std=0.3)
    objective = Objective(method, strategy or Clean()).train().double()
    batch = make_batch(objective)
    views = {
        slot: replace(view, source=Crops(view.pixels().double(), view.normalisation))
        for slot, view in batch.views.items()
    }
    return objective, method, replace(batch, views=views)


def logits(method: IBOT, pixels: Tensor, mask: Tensor | None, teacher: bool = False) -> tuple[Tensor, Tensor]:
    """Return outputs for the class token (B, K) and for patches (B, N, K), step by step through timm's parts."""
    network = method.momentum.get_submodule("backbone") if teacher else method.backbone
    head = method._teachers_head() if teacher else method.head
    x = network.patch_embed(pixels)
    if mask is not None:
        x = x.clone()
        x[mask.view(x.shape[:-1])] = method.mask_token[0]
    x = head.mlp(network.norm(network.blocks(network._pos_embed(x))))
    x = normalize(x, dim=-1)
    last, patch_last = (normalize(layer.weight, dim=1) for layer in (head.last, head.patch_last or head.last))
    return x[:, 0] @ last.T, x[:, 1:] @ patch_last.T


@pytest.mark.parametrize("shared_head_teacher", [True, False])
@pytest.mark.parametrize("shared_head", [True, False])
@pytest.mark.parametrize("epoch", [0, 7, 40])
def test_loss_gradient_and_centres(epoch: int, shared_head: bool, shared_head_teacher: bool) -> None:
    heads = {"shared_head": shared_head, "shared_head_teacher": shared_head_teacher}
    objective, method, batch = build(class_weight=0.7, patch_weight=1.3, **heads)
    assert (method.head.patch_last is None) == shared_head
    assert (method._teachers_head().patch_last is None) == (shared_head or shared_head_teacher)
    batch = replace(batch, clock=replace(batch.clock, epoch=epoch))
    views = batch.views
    masks = [views[slot].mask for slot in (EVEN, ODD)]
    assert all(mask is not None and 0 < int((mask.sum(1) > 0).sum()) < len(batch) for mask in masks)
    with without_noise(objective):
        losses = objective(batch, len(batch))
        seen = {slot: logits(method, view.pixels(), view.mask) for slot, view in views.items()}
        with torch.no_grad():
            shown = {slot: logits(method, views[slot].pixels(), None, teacher=True) for slot in (EVEN, ODD)}
    temperature = 0.04 + 0.03 * min(epoch, 29) / 29
    between = DINOLoss(9, 0.04, 0.07, 30)
    between.center = method.centre.mean.clone()[None, None]
    theirs = 0.7 * between([row[0] for row in shown.values()], [row[0] for row in seen.values()], epoch=epoch)
    for slot, mask in zip((EVEN, ODD), masks, strict=True):
        assert mask is not None
        patch_loss = IBOTPatchLoss(9)
        patch_loss.center.center = method.patch_centre.mean.clone()[None]
        grid = mask.view(-1, SIDE, SIDE)
        theirs = theirs + 1.3 / 2 * patch_loss(shown[slot][1][mask], seen[slot][1][mask], grid, temperature)
    torch.testing.assert_close(losses.total, theirs, rtol=1e-6, atol=1e-6)
    parameters = [p for p in method.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(theirs, parameters)
    for got, want in zip(torch.autograd.grad(losses.total, parameters), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)
    centres = [
        0.9 * centre.mean + 0.1 * torch.cat([row[i] for row in shown.values()]).flatten(0, -2).mean(0)
        for i, centre in enumerate((method.centre, method.patch_centre))
    ]
    method.update(losses.encoded, batch.clock, losses.batch.samples)
    torch.testing.assert_close(method.centre.mean, centres[0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(method.patch_centre.mean, centres[1], rtol=1e-6, atol=1e-8)


def test_a_fault_breaks_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over all masked patches of the batch weighs images by how much of them is masked."""
    patch_losses = ibot.patch_losses

    def of_the_batch(comparison: object, online: ibot.Seen, target: Tensor) -> Tensor:
        counts = online.masked.sum(1)
        losses: Tensor = patch_losses(comparison, online, target)  # type: ignore[arg-type]
        return losses * counts * len(counts) / counts.sum()

    monkeypatch.setattr(ibot, "patch_losses", of_the_batch)
    with pytest.raises(AssertionError):
        test_loss_gradient_and_centres(7, True, False)


@settings(deadline=None, max_examples=10)
@given(share=st.sampled_from([(0.0, 0.0), (0.3, 0.6), (1.0, 1.0)]), probability=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_mean_is_over_masked_patches(share: tuple[float, float], probability: float) -> None:
    objective, method, batch = build(masks=BlockMasks(probability, share))
    with without_noise(objective), torch.no_grad():
        losses_PB, _ = objective.pairwise(batch)
        for p, pair in enumerate(objective.pairs):
            if pair.kind == "patch":
                view = batch.views[pair.online]
                assert view.mask is not None
                seen = (logits(method, view.pixels(), view.mask)[1] / 0.1).log_softmax(2)
                shown = logits(method, view.pixels(), None, teacher=True)[1]
                target = ((shown - method.patch_centre.mean) / (0.04 + 0.03 / 29)).softmax(2)
                entropies = -(target * seen).sum(2)
                for i, mask in enumerate(view.mask):
                    wanted = entropies[i][mask].mean() if mask.any() else entropies.new_zeros(())
                    torch.testing.assert_close(losses_PB[p, i], wanted, rtol=1e-6, atol=1e-7)


def test_a_head_with_batchnorm_normalises_by_all_patches() -> None:
    """By those too that no loss reads."""
    objective, method, batch = build(batchnorm=True, masks=BlockMasks(1.0, (0.3, 0.6)))
    view = batch.views[EVEN]
    assert view.mask is not None
    with without_noise(objective), torch.no_grad():
        seen = method.encode(batch, [EVEN], []).online[EVEN]
        network = method.backbone
        x = network.patch_embed(view.pixels()).clone()
        x[view.mask.view(x.shape[:-1])] = method.mask_token[0]
        x = network.norm(network.blocks(network._pos_embed(x)))[:, 1:]
        wanted = normalize(method.head.mlp(x.flatten(0, 1)), dim=-1).view(*x.shape[:2], -1)
    torch.testing.assert_close(seen.patches, wanted[view.mask], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batchnorm", [True, False])
def test_where_nothing_is_masked_every_weight_has_a_gradient(batchnorm: bool) -> None:
    """A process that masks no patch must bring its part to the sum of gradients."""
    objective, method, batch = build(masks=BlockMasks(0.0), shared_head=False, batchnorm=batchnorm)
    losses = objective(batch, len(batch))
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in method.parameters() if parameter.requires_grad)
    assert method.head.patch_last is not None
    grad = method.head.patch_last.weight.grad
    assert grad is not None
    assert not grad.any()


@pytest.mark.parametrize("shared_head", [True, False])
def test_last_layers_are_frozen_and_followed(shared_head: bool) -> None:
    """In the first epoch both are frozen, each once; a teacher's shared one follows that of the class token."""
    _, method, batch = build(shared_head=shared_head, shared_head_teacher=True)
    first, second = (replace(batch.clock, epoch=epoch) for epoch in (0, 1))
    assert method.frozen(second) == ()
    assert list(method.frozen(first)) == [method.head.last, method.head.patch_last][: 2 - shared_head]
    teacher = method._teachers_head()
    before = teacher.last.weight.clone()
    encoded = method.encode(batch, [], [EVEN, ODD])
    method.update(encoded, replace(batch.clock, progress=0), batch.samples)
    torch.testing.assert_close(teacher.last.weight, before.lerp(method.head.last.weight, 0.004))


def test_a_patch_predicts_the_image_that_it_comes_from() -> None:
    objective, method, batch = build(CutMix(scope="sample"), masks=BlockMasks(1.0, (0.4, 0.6)))
    with without_noise(objective), torch.no_grad():
        (term,) = objective.strategy(batch, objective)
        losses_PB, _ = objective.pairwise(term.batch)
        boxes = 0
        for p, pair in enumerate(objective.pairs):
            if pair.kind != "patch":
                continue
            view, mix = term.batch.hard[pair.online], term.batch.mixes[pair.online]
            assert mix.box is not None and view.mask is not None
            assert torch.equal(view.mask, batch.views[pair.online].mask)
            assert not (mix.box % method.mix_grid).any()
            boxes += int((mix.weight < 1).sum())
            seen = (logits(method, view.pixels(), view.mask)[1] / 0.1).log_softmax(2)
            shown = logits(method, batch.views[pair.online].pixels(), None, teacher=True)[1]
            target = ((shown - method.patch_centre.mean) / (0.04 + 0.03 / 29)).softmax(2)
            for i in range(len(batch)):
                top, left, bottom, right = (mix.box[i] // method.mix_grid).tolist()
                source = target[i].clone().view(SIDE, SIDE, -1)
                source[top:bottom, left:right] = target[mix.partner[i]].view(SIDE, SIDE, -1)[top:bottom, left:right]
                entropies = -(source.flatten(0, 1) * seen[i]).sum(1)
                torch.testing.assert_close(losses_PB[p, i], entropies[view.mask[i]].mean(), rtol=1e-6, atol=1e-7)
        assert boxes
        assert Slot("local", 0) not in term.batch.mixes
