"""Attacks along the gradient of the clean term: the perturbed views, the training, and the cost."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

import hardviews.objective.clean_loss
from hardviews.batch import Batch, Term, View
from hardviews.errors import UserError
from hardviews.methods.moco import MoCoConfig
from hardviews.models.held import HeldStatistics, Kind
from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.scorer import Scorer
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import Normalisation
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot
from tests.laws.cases import METHODS, ROWS, build, make_batch, networks, rows_of, train_step
from tests.strategies.photographs import crops

IMAGENET = Normalisation()
EPSILON = 4 / 255
Pairs = Literal["all", "hard"]


def cheap(attacked: Pairs = "all", mixed: Pairs = "all") -> Sum:
    attack = Adversarial(EPSILON, gradient="clean", pairs=attacked)
    return Sum((1.0, Clean()), (0.5, attack), (0.25, CutMix(pairs=mixed)))


@dataclass(frozen=True)
class Replayed(Strategy):
    """Trains on pixels that were made before."""

    pixels: Mapping[Slot, Tensor] = field(default_factory=dict)
    pairs: Pairs = "all"
    adversarial_branch = True  # type: ignore[assignment]

    def __call__(self, batch: Batch, objective: Scorer) -> list[Term]:
        hard = {}
        for slot, tensor in self.pixels.items():
            view = batch.views[slot]
            hard[slot] = View(slot, Crops(tensor, IMAGENET), IMAGENET, branch="adversarial", mask=view.mask)
        return [Term(replace(batch, hard=hard), name="adversarial", hard_only=self.pairs == "hard")]


def in_double(batch: Batch) -> Batch:
    views = {}
    for slot, view in batch.views.items():
        assert isinstance(view.source, Crops)
        pixels = IMAGENET.normalise(view.source.tensor).double()
        mask = None if view.mask is None else view.mask.double()
        views[slot] = replace(view, source=Crops(pixels, IMAGENET), mask=mask)
    return replace(batch, views=views)


def attacked_by_hand(method: str, network: str, batch: Batch) -> dict[Slot, Tensor]:
    """Make the sign step by plain autograd: gradient of the clean objective with respect to the views' pixels.

    A regulariser is no part of it.
    """
    objective = build(method, Clean(), network).double()
    if objective.method.regularised:
        objective.method.regulariser = lambda *_: torch.zeros(())  # type: ignore[assignment,method-assign]
    slots = [s for s in dict.fromkeys(pair.online for pair in objective.pairs) if batch.views[s].target]
    leaves = {slot: batch.views[slot].pixels().clone().requires_grad_() for slot in slots}
    views = {s: replace(batch.views[s], source=Crops(leaf, IMAGENET)) for s, leaf in leaves.items()}
    with without_noise(objective):
        total = objective(replace(batch, views={**batch.views, **views}), len(batch)).total
    grads = torch.autograd.grad(total, list(leaves.values()))
    made = {}
    for (slot, leaf), grad in zip(leaves.items(), grads, strict=True):
        start = leaf.detach()
        moved = start + IMAGENET.radius(EPSILON, start) * grad.sign()
        made[slot] = moved.clamp(IMAGENET.low(start), IMAGENET.high(start))
    return made


def gradients(objective: Objective, batch: Batch) -> tuple[Tensor, dict[str, Tensor | None]]:
    with without_noise(objective):
        losses = objective(batch, len(batch))
    losses.total.backward()
    return losses.total.detach(), {name: p.grad for name, p in objective.named_parameters()}


COMPOSITIONS: dict[str, tuple[Pairs, Pairs]] = {
    "whole losses": ("all", "all"),
    "hard pairs": ("hard", "hard"),
    "mixed views read clean small ones": ("hard", "all"),
}


@pytest.mark.parametrize("pairs", COMPOSITIONS)
@pytest.mark.parametrize("method", [m for m in METHODS if not m.startswith("toy")])
def test_loss_and_gradient_are_those_of_an_independent_computation(method: str, pairs: str) -> None:
    """In double precision: pixels by plain autograd, and then one plain backward pass of all terms."""
    of_attack, of_mix = COMPOSITIONS[pairs]
    for network in networks(method):
        objective = build(method, cheap(of_attack, of_mix), network).double()
        batch = in_double(make_batch(objective))
        pixels = attacked_by_hand(method, network, batch)
        plain = Sum((1.0, Clean()), (0.5, Replayed(pixels, of_attack)), (0.25, CutMix(pairs=of_mix)))
        wanted, theirs = gradients(build(method, plain, network).double(), batch)
        found, mine = gradients(objective, batch)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
        assert mine.keys() == theirs.keys()
        for name, grad in theirs.items():
            # timm resamples position embeddings in single precision.
            close = {"rtol": 1e-3, "atol": 1e-5} if "pos_embed" in name else {"rtol": 1e-7, "atol": 1e-8}
            assert (grad is None) == (mine[name] is None), name
            if grad is not None:
                torch.testing.assert_close(mine[name], grad, msg=lambda m, n=name: f"{n}: {m}", **close)


def passes(objective: Objective, batch: Batch) -> Counter[str]:
    """Count the passes of a step through the trained backbone."""
    counts: Counter[str] = Counter()

    def hook(module: nn.Module, given: Any, features: Tensor) -> None:
        if features.requires_grad:
            counts["forward"] += 1
            features.register_hook(lambda gradient: counts.update(["backward"]))

    handle = objective.method.backbone.register_forward_hook(hook)
    objective(batch, len(batch)).total.backward()
    handle.remove()
    return counts


@pytest.mark.parametrize(
    ("method", "pairs", "cost"),
    [
        ("moco", "all", {"forward": 3, "backward": 3}),  # a query: clean, attacked, mixed
        ("simsiam", "all", {"forward": 6, "backward": 6}),
        ("deepcluster", "hard", {"forward": 8, "backward": 8}),  # four clean views, then two twice
        # Terms pass a gradient to the clean views' encodings: pixels take another backward pass.
        ("simclr", "all", {"forward": 6, "backward": 8}),
    ],
)
def test_the_clean_terms_backward_pass_is_made_once(method: str, pairs: Pairs, cost: dict[str, int]) -> None:
    strategy = Sum(
        (1.0, Clean()), (1.0, Adversarial(EPSILON, gradient="clean", pairs=pairs)), (1.0, CutMix(pairs=pairs))
    )
    objective = build(method, strategy)
    assert passes(objective, make_batch(objective)) == cost


def test_the_clean_graph_is_free_before_hard_views_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = build("moco", cheap())
    seen = []
    original = Objective._term

    def spy(self: Objective, term: Term, count: int) -> Any:
        assert self._step is not None
        seen.extend(tensor.requires_grad for tensor in self._step.trained.online.values())
        return original(self, term, count)

    monkeypatch.setattr(Objective, "_term", spy)
    objective(make_batch(objective), 8)
    assert seen and not any(seen)


@settings(deadline=None, max_examples=20)
@given(
    levels=st.integers(0, 64), size=st.none() | st.floats(0.001, 0.5), branch=st.sampled_from(["main", "adversarial"])
)
def test_any_attack_keeps_its_bound(levels: int, size: float | None, branch: Any) -> None:
    attack = Adversarial(levels / 255, step_size=size, branch=branch, gradient="clean")
    objective = build("simsiam", attack)
    batch = make_batch(objective)
    with objective.sharing():
        (term,) = objective.strategy(batch, objective)
    assert bool(term.batch.hard) == (levels > 0 or branch == "adversarial")
    for slot, view in term.batch.hard.items():
        before, now = (IMAGENET.denormalise(v.pixels()) for v in (batch.views[slot], view))
        assert (now - before).abs().max() <= levels / 255 + 1e-6
        assert now.min() >= -1e-6
        assert now.max() <= 1 + 1e-6
        if not levels:
            assert torch.equal(view.pixels(), batch.views[slot].pixels())


@pytest.mark.parametrize(("method", "pairs"), [("moco", "all"), ("dino", "hard"), ("dino", "all")])
def test_micro_batches_add_up_to_the_whole_batch(method: str, pairs: Pairs) -> None:
    """A gradient that is kept adds up over micro-batches as any other does.

    Without BatchNorm, whose statistics are those of a micro-batch.
    """
    whole, parts = (build(method, cheap(pairs, pairs), "vit").double() for _ in range(2))
    batch = in_double(make_batch(whole))
    with without_noise(whole):
        whole(batch, 8).total.backward()
    for rows in (slice(0, 4), slice(4, 8)):
        with without_noise(parts):
            parts(rows_of(batch, rows), 8).total.backward()
    for (name, mine), theirs in zip(parts.named_parameters(), whole.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None and "pos_embed" not in name:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-7, atol=1e-9)


def test_in_bfloat16_kept_gradients_are_those_of_the_ordinary_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast is off in a backward pass: products of the loss would be rounded."""
    found = []
    for early in (True, False):
        if not early:
            monkeypatch.setattr(hardviews.objective.clean_loss, "reads", lambda *_: True)
        objective = build("moco", Sum((1.0, Clean()), (1e-9, Adversarial(EPSILON, gradient="clean"))))
        with torch.autocast("cpu", torch.bfloat16):
            losses = objective(make_batch(objective), 8)
        losses.total.backward()
        found.append({name: p.grad for name, p in objective.named_parameters() if ".adversarial." not in name})
    for name, grad in found[0].items():
        if grad is not None:
            assert grad.dtype == torch.float32
            torch.testing.assert_close(grad, found[1][name], rtol=1e-5, atol=1e-6)


def test_views_that_were_encoded_before_are_encoded_once_more_without_a_trace() -> None:
    own, clean = Adversarial(EPSILON), Adversarial(EPSILON, gradient="clean")
    objective = build("simsiam", Sum((1.0, Clean()), (0.5, own), (0.5, clean)))
    batch = make_batch(objective)
    alone = build("simsiam", Sum((1.0, Clean()), (0.5, clean)))
    views = {}
    for one in (objective, alone):
        with one.sharing():
            terms = one.strategy(batch, one)
        views[one] = {slot: view.pixels() for slot, view in terms[-1].batch.hard.items()}
        one(batch, len(batch))
    for slot, pixels in views[alone].items():
        assert torch.equal(pixels, views[objective][slot])
    assert objective.method.backbone.bn1.num_batches_tracked == alone.method.backbone.bn1.num_batches_tracked


def test_a_second_attack_reads_the_gradient_as_well_if_views_were_encoded_before() -> None:
    own, clean = Adversarial(EPSILON), Adversarial(EPSILON, gradient="clean")
    objective = build("simsiam", Sum((1.0, Clean()), (0.5, own), (0.5, clean), (0.5, clean)))
    with objective.sharing():
        *_, first, second = objective.strategy(make_batch(objective), objective)
    assert first.batch.hard
    for slot, view in first.batch.hard.items():
        assert torch.equal(view.pixels(), second.batch.hard[slot].pixels())


def test_after_a_selection_the_chosen_views_are_attacked() -> None:
    objective = build("moco", Chain(HardViews(4), cheap()))
    losses = objective(make_batch(objective), 8)
    chosen = losses.terms[0][0].batch
    for slot, view in losses.terms[1][0].batch.hard.items():
        moved = (IMAGENET.denormalise(view.pixels()) - IMAGENET.denormalise(chosen.views[slot].pixels())).abs()
        assert 0.9 * EPSILON < moved.max() <= EPSILON + 1e-6


@pytest.mark.parametrize(("method", "kept"), [("moco", 0.9), ("simclr", 0.9), ("deepcluster", 0.9)])
def test_its_strength_against_the_full_attack(method: str, kept: float) -> None:
    """On photographs, after a few steps of training.

    The metric is the ratio of the losses raised under the statistics that the full attack holds. As trained, each batch
    with its own statistics, the attack raises at least as much as the full one.
    """
    attack = Adversarial(EPSILON, branch="main", gradient="clean", measure=1)
    strategy = Sum((1.0, Clean()), (1.0, attack), average=True)
    torch.manual_seed(0)
    network = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=0, channels=(16, 32, 64, 128))
    # The queue of the other tests is so short that most attacks change nothing.
    moco = MoCoConfig(hidden=64, output=32, queue=256, momentum=0.9).build
    objective = Objective((moco if method == "moco" else METHODS[method])(network, 128), strategy).train()
    objective.method.allocate(ROWS)
    for step in range(10):
        train_step(objective, photographs(objective, step), lr=0.05)
    batch = photographs(objective, 10)
    held = {gradient: gain(objective, replace(attack, gradient=gradient), batch) for gradient in ("clean", "own")}
    trained = {
        gradient: gain(objective, replace(attack, gradient=gradient), batch, "batch") for gradient in ("clean", "own")
    }
    measured = objective(batch, len(batch)).measures
    strength = measured["attack/strength"][~measured["attack/strength"].isnan()].mean()
    torch.testing.assert_close(strength, held["clean"].mean() / held["own"].mean(), rtol=1e-3, atol=1e-4)
    assert strength >= kept
    assert trained["clean"].mean() >= 0.95 * trained["own"].mean()
    assert (held["clean"] > 0).double().mean() >= 0.8


def gain(objective: Objective, attack: Adversarial, batch: Batch, kind: Kind = "held") -> Tensor:
    """Return by how much an attack raises the loss of each sample, under statistics of a kind."""
    held = {slot: HeldStatistics(kind) for slot in batch.views}

    def losses(hard: Mapping[Slot, View]) -> Tensor:
        views = {slot: replace(view, statistics=held[slot]) for slot, view in hard.items()}
        return objective.reduce(objective.pairwise(replace(batch, hard=views), attack=True)[0])

    with objective.sharing():
        (term,) = replace(attack, measure=0)(batch, objective)
        still = {s: replace(v, source=Crops(batch.views[s].pixels(), IMAGENET)) for s, v in term.batch.hard.items()}
        with torch.no_grad():
            gain_B = -losses(still) + losses(term.batch.hard)
    valid_B = objective.valid(batch)
    return gain_B if valid_B is None else gain_B[valid_B]


def photographs(objective: Objective, step: int, samples: int = 64) -> Batch:
    template = make_batch(objective, samples, step=step)
    views = {}
    for slot in objective.plan.candidates:
        view = template.views[slot]
        pixels = crops(samples, seed=step * 10 + objective.plan.view_number(slot))
        if view.target:
            views[slot] = replace(view, source=Crops(pixels, IMAGENET))
        else:
            views[slot] = replace(view, source=Crops(pixels[..., ::2, ::2], IMAGENET))
    return replace(template, views=views, group=32)


def test_strength_is_measured_in_every_measureth_attack() -> None:
    objective = build("simsiam", Sum((1.0, Clean()), (1.0, Adversarial(EPSILON, gradient="clean", measure=3))))
    measured = [s for s in range(7) if "attack/strength" in objective(make_batch(objective, step=s), 8).measures]
    assert measured == [2, 5]


@pytest.mark.parametrize("settings", [{"steps": 2}, {"start": "uniform"}])
def test_several_steps_and_other_starts_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="Set steps to 1"):
        Adversarial(gradient="clean", **settings)


def test_mixed_views_are_refused() -> None:
    for attack in (Adversarial(gradient="clean"), Sum((1.0, Adversarial(gradient="clean")))):
        with pytest.raises(UserError, match="gradient of the attack to own"):
            Chain(CutMix(), attack)
