"""Terms of hard views alone: their effect, and that methods without local views see no difference."""

from dataclasses import replace
from typing import Literal

import pytest
import torch

from hardviews.methods.ibot import IBOTConfig
from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import Augmentation
from hardviews.views.pixels import Crops
from tests.laws.cases import METHODS, SIZE, VIEW, build, make_batch, train_step, vit

HARD = {
    "attack": Adversarial(epsilon=4 / 255, pairs="hard"),
    "attack of nothing": Adversarial(epsilon=0.0, branch="main", pairs="hard"),
    "cutmix": CutMix(pairs="hard"),
    "cutmix of nothing": CutMix(fixed=1, pairs="hard"),
    "mixup": MixUp(pairs="hard"),
    "chain": Chain(CutMix(pairs="hard"), Adversarial()),
}
WITH_LOCALS = ["swav", "deepcluster", "dino", "ibot", "toy_centre"]
CASES = [
    (method, name)
    for method in METHODS
    for name in HARD
    if not (name == "mixup" and method in ("ibot", "toy_masked"))  # refused: a patch would be a blend
]


@pytest.mark.parametrize(("method", "name"), CASES)
def test_hard_terms_are_the_means_over_hard_views(method: str, name: str) -> None:
    """Of each kind of pair: the losses of attacked or mixed views, in the proportions that the method gives them."""
    objective = build(method, HARD[name])
    batch = make_batch(objective)
    with without_noise(objective):
        losses = objective(batch, len(batch))
    ((term, losses_B),) = losses.terms
    assert all(batch.views[slot].target for slot in term.batch.hard)
    with torch.no_grad(), without_noise(objective), objective.sharing():
        losses_PB, _ = objective.pairwise(term.batch)
    wanted_B = torch.zeros(len(batch))
    for kind in {pair.kind for pair in objective.pairs}:
        every = [pair.weight for pair in objective.pairs if pair.kind == kind]
        hard = [p for p, pair in enumerate(objective.pairs) if pair.kind == kind and pair.online in term.batch.hard]
        weights = torch.tensor([objective.pairs[p].weight for p in hard])
        mean_B = sum(every) * (weights[:, None] * losses_PB[hard]).sum(0) / weights.sum()
        valid_B = objective.valid(term.batch, [objective.pairs[p] for p in hard])
        wanted_B += mean_B if valid_B is None else torch.where(valid_B, mean_B, 0.0)
    torch.testing.assert_close(losses_B, wanted_B, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in (*WITH_LOCALS, "joint_crops")])
def test_without_local_views_the_whole_loss_is_that_of_hard_views(method: str) -> None:
    totals = []
    for pairs in ("all", "hard"):
        strategy = Sum((1.0, Clean()), (1.0, Adversarial(pairs=pairs)), (1.0, CutMix(pairs=pairs)))  # type: ignore[arg-type]
        objective = build(method, strategy)
        totals.append(train_step(objective, make_batch(objective)))
    assert torch.equal(*totals)


@pytest.mark.parametrize("strategy", [CutMix(pairs="hard"), Adversarial(pairs="hard")], ids=["cutmix", "adversarial"])
@pytest.mark.parametrize("method", WITH_LOCALS)
def test_pairs_of_hard_views_alone_have_the_weight_of_all_of_their_kind(method: str, strategy: Strategy) -> None:
    objective = build(method, strategy)
    batch = make_batch(objective)
    term = objective.strategy(batch, objective)[0]
    whole = objective.pairs_of(replace(term, hard_only=False))
    assert {pair.online for pair in objective.pairs_of(term)} == set(term.batch.hard)
    for kind in {pair.kind for pair in whole}:
        hard, every = (
            sum(pair.weight for pair in pairs if pair.kind == kind) for pairs in (objective.pairs_of(term), whole)
        )
        assert hard == pytest.approx(every)


@pytest.mark.parametrize("pairs", ["all", "hard"])
def test_an_attack_climbs_the_loss_that_its_term_adds(pairs: Literal["all", "hard"]) -> None:
    """Of hard views alone, iBOT's class token has more weight beside the patches than in the whole loss."""
    attack = Adversarial(epsilon=4 / 255, branch="main", pairs=pairs)
    objective = build("ibot", attack)
    batch = make_batch(objective)
    with without_noise(objective):
        (term,) = attack(batch, objective)
        leaves = {slot: batch.views[slot].pixels().requires_grad_() for slot in term.batch.hard}
        views = {s: replace(batch.views[s], source=Crops(x, batch.views[s].normalisation)) for s, x in leaves.items()}
        added = objective.pairs_of(term)
        losses_PB, _ = objective.pairwise(replace(batch, hard=views), pairs=added)
        grads = torch.autograd.grad(objective.reduce(losses_PB, pairs=added).sum(), list(leaves.values()))
    for (slot, leaf), grad in zip(leaves.items(), grads, strict=True):
        normalisation = batch.views[slot].normalisation
        wanted = (normalisation.denormalise(leaf.detach()) + 4 / 255 * grad.sign()).clamp(0, 1)
        found = normalisation.denormalise(term.batch.hard[slot].pixels())
        # If the gradient almost vanishes, rounding decides its sign.
        assert ((found - wanted).abs() > 1e-5).float().mean() < 1e-3


@pytest.mark.parametrize("strategy", [CutMix(pairs="hard"), Adversarial(pairs="hard")], ids=["cutmix", "adversarial"])
@pytest.mark.parametrize("only", ["class", "patch"])
def test_a_kind_of_pair_that_weighs_nothing_goes_on_weighing_nothing(only: str, strategy: Strategy) -> None:
    weights = {"class_weight": float(only == "class"), "patch_weight": float(only == "patch")}
    view = Augmentation(size=2 * SIZE)
    config = IBOTConfig(hidden=16, bottleneck=8, outputs=10, locals=1, even=view, odd=view, local=VIEW, **weights)  # type: ignore[arg-type]
    objective = Objective(config.build(vit(), 32), strategy).train()
    ((term, losses_B),) = objective(make_batch(objective), 8).terms
    assert losses_B.isfinite().all() and losses_B.sum() > 0
    assert {pair.kind for pair in objective.pairs_of(term) if pair.weight} == {only}
