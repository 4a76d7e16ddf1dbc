"""The laws, each a function that raises if it is broken, so that a planted fault can be shown to break it."""

import math
from dataclasses import replace

import torch

from hardviews.batch import Batch, Mix, View
from hardviews.methods.method import Method
from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.compose import Chain, Sum, Weighted
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.least_overlap import LeastOverlap
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.more_views import MoreViews
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.random_views import RandomViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot
from tests.laws.cases import JOINT_LABELS, STRATEGIES, assert_same_state, build, make_batch, state, train_step

SELECTIONS: dict[str, Strategy] = {
    "hardest": HardViews(4),
    "of a few": HardViews(4, limit=3),
    "scored smaller": HardViews(4, size=8),
    "chance": RandomViews(4),
    "overlap": LeastOverlap(4),
    "predicted": PredictedViews(4),
    "averaged": AllPairs(4),
    "more": MoreViews(2),
}


def scoring_changes_nothing(method: str, network: str, strategy: Strategy) -> None:
    """Law 1: parameters, buffers and random streams are equal before and after a selection."""
    objective = build(method, strategy, network)
    batch = make_batch(objective)
    before, stream = state(objective), torch.get_rng_state()
    objective.strategy(batch, objective)
    assert_same_state(before, state(objective))
    assert torch.equal(stream, torch.get_rng_state()), "the random stream moved"
    assert all(parameter.grad is None for parameter in objective.parameters())


def assigned(batch: Batch, slots: tuple[Slot, ...], row: list[int]) -> Batch:
    """Return the batch of one assignment, its views known by their slots alone."""
    return replace(
        batch, views={s: replace(batch.views[Slot(s.pool, k)], slot=s) for s, k in zip(slots, row, strict=True)}
    )


def selection_equals_brute_force(method: str, network: str, choose: str = "hardest", limit: int | None = None) -> None:
    """Law 2: the chosen assignment has the highest loss of all, each tried on its own (noise fixed).

    With a limit, of those that it draws; then local views are chosen too.
    """
    slots = [pool.slots for pool in build(method, Clean(), network).method.plan().pools if not pool.target]
    local = max(slots) + 1 if slots and limit else None
    strategy = HardViews(4, local_candidates=local, limit=limit, choose=choose)  # type: ignore[arg-type]
    objective = build(method, strategy, network)
    batch = make_batch(objective)
    with without_noise(objective):
        (term,) = objective.strategy(batch, objective)
        selection = term.batch.selection
        assert selection is not None
        table = selection.table if limit else objective.plan.assignments(objective.pairs)
        with torch.no_grad():
            batches = [assigned(batch, objective.plan.slots, row) for row in table.tolist()]
            losses = [objective.reduce(objective.pairwise(one)[0]) for one in batches]
    assert limit is None or len(table) == limit
    hardest = torch.stack(losses).argmax(0)
    torch.testing.assert_close(selection.hardness, torch.stack(losses), rtol=1e-5, atol=1e-6)
    assert torch.equal(selection.choice, hardest), "another assignment is harder"
    for s, slot in enumerate(objective.plan.slots):
        for i, a in enumerate(hardest.tolist()):
            wanted = batch.views[Slot(slot.pool, int(table[a, s]))]
            assert torch.equal(term.batch.views[slot].pixels()[i], wanted.pixels()[i])


def averaging_equals_brute_force(method: str, network: str, strategy: Strategy) -> None:
    """Law 2 without a choice: losses and gradients are the mean of those of every assignment on its own."""
    objective, clean = build(method, strategy, network), build(method, Clean(), network)
    batch = make_batch(objective)
    with without_noise(objective), without_noise(clean):
        (term,) = objective.strategy(batch, objective)
        assert term.assignments is not None
        parameters = [p for p in objective.parameters() if p.requires_grad]
        objective(batch, len(batch)).total.backward()
        found = [p.grad for p in parameters]
        losses = objective(batch, len(batch)).terms[0][1]
        alone = []
        for row in term.assignments.tolist():
            made = clean(assigned(batch, objective.plan.slots, row), len(batch))
            (made.total / len(term.assignments)).backward()
            alone.append(made.terms[0][1])
    torch.testing.assert_close(losses, torch.stack(alone).mean(0), rtol=1e-5, atol=1e-6)
    for grad, parameter in zip(found, [p for p in clean.parameters() if p.requires_grad], strict=True):
        torch.testing.assert_close(grad, parameter.grad, rtol=1e-3, atol=2e-5)


def nothing(slots: int) -> dict[str, Strategy]:
    """Return strategies that add nothing to a method with so many slots of global views."""
    return {
        "as many candidates as slots": HardViews(slots),
        "as many candidates as slots, by chance": RandomViews(slots),
        "as many candidates as slots, by overlap": LeastOverlap(slots),
        "as many candidates as slots, predicted": PredictedViews(slots),
        "as many candidates as slots, averaged": AllPairs(slots),
        "a single set of views": MoreViews(1),
        "weight zero": Sum((1.0, Clean()), (0.0, CutMix()), (0.0, Adversarial(4 / 255))),
        "parts that begin later": Sum(
            (1.0, Clean()), Weighted(0.5, CutMix(), begin=5), Weighted(0.5, Adversarial(4 / 255), begin=5), average=True
        ),
        "lambda one": CutMix(fixed=1.0),
        "lambda one, blended": MixUp(fixed=1.0),
        "epsilon zero on the same branch": Adversarial(0.0, branch="main"),
        "all of them": Chain(
            HardViews(slots), Sum((1.0, Chain(CutMix(fixed=1.0), Adversarial(0.0, branch="main"))), (0.0, CutMix()))
        ),
    }


NOTHING = tuple(nothing(2))


def nothing_added_is_the_clean_step(method: str, network: str, name: str) -> None:
    """Law 3: strategies that add nothing give the clean step, bit for bit, over two steps."""
    pools = build(method, Clean(), network).own_plan.pools
    strategy = nothing(sum(pool.slots for pool in pools if pool.target))[name]
    after = []
    for chosen in (Clean(), strategy):
        objective = build(method, chosen, network)
        for step in range(2):
            torch.manual_seed(step)
            loss = train_step(objective, make_batch(objective, step=step))
        after.append((loss, state(objective)))
    assert torch.equal(after[0][0], after[1][0]), f"losses {after[0][0]} and {after[1][0]}"
    clean, other = (
        {n: t for n, t in s.items() if "adversarial" not in n and not n.startswith("scout.")} for _, s in after
    )
    assert_same_state(clean, other)


def an_unchanged_hard_view_costs_the_same(method: str, network: str) -> None:
    """Law 3, without a short cut: a hard view with the clean pixels has the clean losses, bit for bit."""
    objective = build(method, Clean(), network)
    batch = make_batch(objective)
    hard, mixes = {}, {}
    for slot in {pair.online for pair in objective.pairs}:
        view = batch.views[slot]
        hard[slot] = View(slot, Crops(view.pixels(), view.normalisation), view.normalisation, mask=view.mask)
        mixes[slot] = Mix(torch.arange(len(batch)).flip(0), torch.ones(len(batch)))
    with torch.no_grad(), without_noise(objective):
        clean, _ = objective.pairwise(batch)
        same, _ = objective.pairwise(replace(batch, hard=hard))
        mixed, _ = objective.pairwise(replace(batch, hard=hard, mixes=mixes))
    assert torch.equal(clean, same)
    assert torch.equal(clean, mixed)


def mixed_loss_is_linear(method: str, network: str) -> None:
    """Law 4: the mixed loss interpolates between those of the two labels.

    If these compete in one softmax (`JOINT_LABELS`), a label without weight is no candidate. So the loss is linear
    in the open interval, jumps at its ends down to the losses of the two labels alone, and is never below the entropy
    of the mixed label.
    """
    objective = build(method, Clean(), network)
    batch = make_batch(objective)
    partner = torch.tensor([1, 2, 3, 0, 5, 4, 7, 6])

    def losses(weight: float) -> torch.Tensor:
        mix = Mix(partner, torch.full((len(batch),), weight))
        mixes = {pair.online: mix for pair in objective.pairs}
        with torch.no_grad(), without_noise(objective):
            return objective.reduce(objective.pairwise(replace(batch, mixes=mixes))[0])

    with torch.no_grad(), without_noise(objective):
        _, encoded = objective.pairwise(batch)
        targets = {s: objective.method.permute_target(t, partner) for s, t in encoded.target.items()}
        swapped = [
            objective.method.pair_losses(batch, encoded.online, {**encoded.target, **targets}, [p])
            for p in objective.pairs
        ]
    torch.testing.assert_close(losses(0.0), objective.reduce(torch.cat(swapped)))
    if method not in JOINT_LABELS:
        torch.testing.assert_close(losses(0.3), 0.3 * losses(1.0) + 0.7 * losses(0.0), rtol=1e-5, atol=1e-6)
        return
    middle = (losses(0.3) - 0.75 * losses(0.1) - 0.25 * losses(0.9)).abs().max()
    assert middle < 1e-5, "not linear between the ends"
    for weight in (0.1, 0.3, 0.9):
        entropy = -(weight * math.log(weight) + (1 - weight) * math.log(1 - weight))
        assert (losses(weight) > weight * losses(1.0) + (1 - weight) * losses(0.0)).all(), "the labels do not compete"
        assert losses(weight).min() >= entropy - 1e-5, "below the entropy of the label"


def update_ignores_hard_terms(method: str, network: str) -> None:
    """Law 5: with frozen weights, a step with hard terms leaves the state of a step without."""
    after = []
    for strategy in (HardViews(4), STRATEGIES["everything"]):
        objective = build(method, strategy, network)
        calls = count_updates(objective.method)
        torch.manual_seed(3)
        train_step(objective, make_batch(objective), lr=0.0)
        assert calls == [1], f"update ran {sum(calls)} times"
        after.append({n: t for n, t in state(objective).items() if "adversarial" not in n})
    assert_same_state(*after)


def count_updates(method: Method) -> list[int]:
    calls: list[int] = []
    update = method.update

    def counted(*args: object) -> None:
        calls.append(1)
        update(*args)  # type: ignore[arg-type]

    method.update = counted  # type: ignore[assignment,method-assign]
    return calls


def attack_keeps_its_bound(method: str, network: str, attack: Adversarial) -> None:
    """Law 6: no pixel moves by more than epsilon nor leaves [0, 1], and the attack raises the mean loss it climbs."""
    objective = build(method, attack, network)
    batch = make_batch(objective)
    with objective.sharing():
        (term,) = objective.strategy(batch, objective)
        with torch.no_grad():
            attacked = objective.pairwise(term.batch, attack=True)[0]
            # The same views unperturbed through the same BatchNorm branch: the start of the attack.
            start = {
                slot: replace(view, source=Crops(batch.views[slot].pixels(), view.normalisation))
                for slot, view in term.batch.hard.items()
            }
            clean = objective.pairwise(replace(batch, hard=start), attack=True)[0]
    assert term.batch.hard
    for slot, view in term.batch.hard.items():
        before = view.normalisation.denormalise(batch.views[slot].pixels())
        now = view.normalisation.denormalise(view.pixels())
        assert (now - before).abs().max() <= attack.epsilon + 1e-6
        assert now.min() >= -1e-6
        assert now.max() <= 1 + 1e-6
        assert (now - before).abs().max() > attack.epsilon / 2
    assert objective.reduce(attacked).mean() > objective.reduce(clean).mean()


def weight_is_the_unpasted_area(method: str, strategy: CutMix) -> None:
    """Law 6: of every mixed view the weight is the share of its pixels that are its own, the rest is the partner's."""
    objective = build(method, strategy)
    batch = make_batch(objective, samples=64)
    (term,) = objective.strategy(batch, objective)
    assert term.batch.mixes
    for slot, mix in term.batch.mixes.items():
        own, mixed = batch.views[slot].pixels(), term.batch.hard[slot].pixels()
        pasted_BHW = (mixed != own).any(1)
        assert torch.equal(mixed, torch.where(pasted_BHW[:, None], own[mix.partner], own))
        apart = mix.partner != torch.arange(len(batch))
        share_B = 1 - pasted_BHW.double().mean((1, 2))
        torch.testing.assert_close(mix.weight[apart], share_B[apart], rtol=0, atol=1e-12)
        assert 0.3 < mix.weight.mean() < 1
        assert torch.equal(mix.partner // batch.group, torch.arange(len(batch)) // batch.group), "partners leave groups"


def permuting_samples_permutes_losses(method: str, network: str, strategy: Strategy) -> None:
    """Law 7: losses follow their samples, whatever the order inside the batch."""
    objective = build(method, strategy, network)
    batch = make_batch(objective)
    order = torch.tensor([3, 0, 7, 5, 1, 6, 2, 4])
    with without_noise(objective):
        straight, permuted = objective(batch, len(batch)), objective(permute(batch, order), len(batch))
    torch.testing.assert_close(straight.total, permuted.total, rtol=1e-4, atol=1e-5)
    for (_, a), (_, b) in zip(straight.terms, permuted.terms, strict=True):
        torch.testing.assert_close(a[order], b, rtol=1e-4, atol=1e-5)


def permute(batch: Batch, order: torch.Tensor) -> Batch:
    def rows(view: View) -> View:
        return replace(
            view,
            source=Crops(view.pixels()[order], view.normalisation),
            rows=None if view.rows is None else view.rows[order],
            mask=None if view.mask is None else view.mask[order],
        )

    return replace(
        batch,
        views={slot: rows(view) for slot, view in batch.views.items()},
        samples=batch.samples[order],
        labels=None if batch.labels is None else batch.labels[order],
    )


def total(objective: Objective, batch: Batch) -> torch.Tensor:
    """Return the step's loss, with the noise of every call alike."""
    torch.manual_seed(5)
    with without_noise(objective):
        return objective(batch, len(batch)).total.detach()
