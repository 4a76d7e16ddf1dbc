"""Joint training: each part does as it does alone, and views of several parts go through the backbone once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hardviews.batch import Batch
from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.methods.byol import BYOLConfig
from hardviews.methods.dino import DINOConfig
from hardviews.methods.ibot import IBOTConfig
from hardviews.methods.joint import Joint, JointConfig, Part
from hardviews.methods.method import MethodConfig
from hardviews.methods.moco import MoCoConfig
from hardviews.methods.swav import SwAVConfig
from hardviews.methods.vicreg import VICRegConfig
from hardviews.models.momentum import MomentumEncoder
from hardviews.models.noise import without_noise
from hardviews.objective import clean_loss
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.composition import check
from hardviews.train.recipe import Training
from hardviews.views.augmentation import Augmentation
from hardviews.views.plan import Pair, Slot
from tests.laws.cases import (
    CLASSES,
    LOCAL,
    NETWORKS,
    SAMPLES,
    SIMCLR,
    STRATEGIES,
    SUPERVISED,
    VIEW,
    make_batch,
    rows_of,
    state,
    train_step,
)

MOCO = MoCoConfig(hidden=16, output=8, queue=12, momentum=0.9, view=VIEW)
SWAV = SwAVConfig(hidden=16, output=8, prototypes=10, queue=8, queue_from=1, locals=2, view=VIEW, local=LOCAL)
DINO = DINOConfig(hidden=16, bottleneck=8, outputs=10, locals=2, even=VIEW, odd=VIEW, local=LOCAL)
IBOT = IBOTConfig(hidden=16, bottleneck=8, outputs=10, locals=1, even=VIEW, odd=VIEW, local=LOCAL)
VICREG = VICRegConfig(width=16, layers=2, first=VIEW, second=VIEW)
LARGE = Augmentation(size=16, scale=(0.5, 1.0))
HEXA = Sum((1.0, Clean()), (1.0, Adversarial(4 / 255)), (1.0, CutMix()))
HVS_HEXA = Chain(HardViews(4), HEXA)


def objective_of(config: MethodConfig, strategy: Strategy | None = None, network: str = "batchnorm") -> Objective:
    torch.manual_seed(0)
    chosen = NETWORKS[network]
    method = config.build(chosen.build(), chosen.features)
    check(method, strategy or Clean(), Training())
    objective = Objective(method, strategy or Clean())
    objective.method.allocate(64)
    return objective.train()


def joint(*parts: tuple[float, MethodConfig] | Part, share: bool = True) -> JointConfig:
    return JointConfig(tuple(part if isinstance(part, Part) else Part(*part) for part in parts), share)


def joined(objective: Objective) -> Joint:
    assert isinstance(objective.method, Joint)
    return objective.method


def steps(objective: Objective, number: int = 2) -> list[Tensor]:
    """Take steps under one noise, and return their losses."""
    losses = []
    for step in range(number):
        batch = make_batch(objective, step=step)
        torch.manual_seed(step)
        losses.append(train_step(objective, batch))
    return losses


def own_state(objective: Objective, part: str) -> dict[str, Tensor]:
    """Return the state of a part by the names that it has alone."""
    return {name.replace(part, ""): tensor for name, tensor in state(objective).items()}


CONFIGS: dict[str, tuple[MethodConfig, str]] = {
    "simclr": (SIMCLR, "batchnorm"),
    "moco": (MOCO, "batchnorm"),
    "swav": (SWAV, "batchnorm"),
    "dino": (DINO, "vit"),
    "ibot": (IBOT, "vit"),
    "supervised": (SUPERVISED, "vit"),
    "vicreg": (VICREG, "batchnorm"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_sum_of_one_is_that_method(name: str) -> None:
    """Bit for bit: losses and all state, over two steps with hard views of every kind. So with a part of weight 0."""
    config, network = CONFIGS[name]
    strategy = STRATEGIES["everything"]
    alone, one, beside = (
        objective_of(made, strategy, network) for made in (config, joint((1, config)), joint((1, config), (0, MOCO)))
    )
    wanted = steps(alone)
    for made in (one, beside):
        assert steps(made) == wanted
        found = own_state(made, "parts.0.")
        for key, tensor in state(alone).items():
            assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("network", NETWORKS)
def test_two_halves_of_a_method_have_its_gradient_in_the_backbone(network: str) -> None:
    alone, halves = (
        objective_of(SIMCLR, None, network),
        objective_of(joint((0.5, SIMCLR), (0.5, SIMCLR)), None, network),
    )
    parts = joined(halves).parts
    parts[1].load_state_dict(parts[0].state_dict())
    gradients = []
    for objective in (alone, halves):
        with without_noise(objective):
            objective(make_batch(objective), SAMPLES).total.backward()
        gradients.append({name: p.grad for name, p in objective.method.backbone.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strategy", [Clean(), HVS_HEXA], ids=["clean", "hard"])
@pytest.mark.parametrize("other", [SIMCLR, MOCO, SWAV], ids=["simclr", "moco", "swav"])
def test_the_order_of_parts_does_not_matter(other: MethodConfig, strategy: Strategy) -> None:
    """MoCo normalises its queries in groups: then the label's part reads these features in either order."""
    one = objective_of(joint((1, other), (0.5, SUPERVISED)), strategy)
    two = objective_of(joint((0.5, SUPERVISED), (1, other)), strategy)
    for a, b in ((0, 1), (1, 0)):
        joined(two).parts[b].load_state_dict(joined(one).parts[a].state_dict())
    losses = [objective(make_batch(objective), SAMPLES).total for objective in (one, two)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)


# ---- Shared views


def passes(objective: Objective) -> tuple[Counter[str], list[Tensor]]:
    """Count the views that pass through the backbone and through momentum copies in a step; return their pixels."""
    counts: Counter[str] = Counter()
    pixels: list[Tensor] = []

    def hook(name: str) -> Callable[..., None]:
        def count(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
            counts[f"{name}, trained" if out.requires_grad else name] += len(out) // SAMPLES
            if out.requires_grad:
                pixels.extend(args[0].detach().split(SAMPLES))

        return count

    objective.method.backbone.register_forward_hook(hook("backbone"))
    for module in objective.method.modules():
        if isinstance(module, MomentumEncoder):
            module.get_submodule("backbone").register_forward_hook(hook("momentum"))
    objective(make_batch(objective), SAMPLES).total.backward()
    return counts, pixels


TWO = ((1, SIMCLR), (1, SUPERVISED))
PASSES: list[tuple[JointConfig, Strategy, dict[str, int]]] = [
    (joint(*TWO), Clean(), {"backbone, trained": 2}),
    (joint(*TWO, share=False), Clean(), {"backbone, trained": 3}),
    (joint(*TWO, (1, MOCO)), Clean(), {"backbone, trained": 2, "momentum": 1}),
    # Any candidate may be a key.
    (joint(*TWO, (1, MOCO)), Sum((1, Clean()), (1, AllPairs(4))), {"backbone, trained": 4, "momentum": 4}),
    (joint((1, MOCO), (1, SUPERVISED)), Clean(), {"backbone, trained": 1, "momentum": 1}),
    (joint(*TWO), HardViews(4), {"backbone": 4, "backbone, trained": 2}),
    (joint(*TWO), HardViews(4, size=8), {"backbone": 4, "backbone, trained": 2}),
    (joint((1, MOCO), (1, SUPERVISED)), HEXA, {"backbone, trained": 1 + 2 + 1, "momentum": 1}),
    (joint(*TWO), HVS_HEXA, {"backbone": 4, "backbone, trained": 2 + 4 + 2}),
    (joint(*TWO), Sum((1, Clean()), (1, CutMix(kinds=("1",)))), {"backbone, trained": 2 + 1}),
    # A view of its own, since it is drawn otherwise.
    (joint((1, SIMCLR), (1, replace(SUPERVISED, view=LARGE))), Clean(), {"backbone, trained": 3}),
    (joint((1, SWAV), (1, SUPERVISED)), Clean(), {"backbone, trained": 4}),
]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("config", "strategy", "wanted"), PASSES, ids=range(len(PASSES)))
def test_no_forward_pass_is_made_twice(
    config: JointConfig, strategy: Strategy, wanted: dict[str, int], network: str
) -> None:
    counts, pixels = passes(objective_of(config, strategy, network))
    assert counts == wanted
    if isinstance(strategy, Clean | HardViews):
        assert not any(torch.equal(a, b) for i, a in enumerate(pixels) for b in pixels[:i])


def test_masked_views_are_not_shared() -> None:
    counts, _ = passes(objective_of(joint((1, IBOT), (1, SUPERVISED)), Clean(), "vit"))
    assert counts == {"backbone, trained": 3 + 1, "momentum": 2}


def test_pools_of_equal_augmentation_are_one() -> None:
    method = joined(objective_of(joint((1, SUPERVISED), (1, SIMCLR), (1, replace(SUPERVISED, view=LARGE)))))
    assert [(pool.name, pool.slots) for pool in method.plan().pools] == [("0/view", 2), ("2/view", 1)]
    assert method.pairs() == (
        Pair(Slot("0/view", 0), Slot("0/label", 0), 1.0, "0/class"),
        Pair(Slot("0/view", 0), Slot("0/view", 1), 0.5, "1/class"),
        Pair(Slot("0/view", 1), Slot("0/view", 0), 0.5, "1/class"),
        Pair(Slot("2/view", 0), Slot("2/label", 0), 1.0, "2/class"),
    )


def test_two_pools_of_one_part_stay_two() -> None:
    """BYOL's views are two kinds, here drawn alike."""
    byol = BYOLConfig(hidden=16, output=8, first=VIEW, second=VIEW)
    method = joined(objective_of(joint((1, byol), (1, byol), (1, SIMCLR))))
    assert [(pool.name, pool.slots) for pool in method.plan().pools] == [("0/first", 2), ("0/second", 1)]


# ---- Labels


def spied(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Tensor | None]]:
    """Record the labels that each part is handed."""
    seen: dict[str, list[Tensor | None]] = {"0": [], "1": []}
    for n, part in enumerate(joined(objective).parts):
        for name in ("encode", "pair_losses", "mixed_loss", "features"):
            before = getattr(part, name)

            def spy(batch: Batch, *arguments: Any, n: int = n, before: Any = before) -> Any:
                seen[str(n)].append(batch.labels)
                return before(batch, *arguments)

            monkeypatch.setattr(part, name, spy)
    return seen


def test_a_self_supervised_part_never_sees_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = objective_of(joint(*TWO), HVS_HEXA)
    seen = spied(objective, monkeypatch)
    objective(make_batch(objective), SAMPLES)
    assert seen["0"] and all(labels is None for labels in seen["0"])
    assert seen["1"] and all(labels is not None for labels in seen["1"])


def test_parts_without_labels_take_a_batch_without() -> None:
    objective = objective_of(joint((1, SIMCLR), (1, MOCO)))
    assert not objective.method.labelled and objective.method.classifier is None
    batch = make_batch(objective)
    assert batch.labels is None
    objective(batch, SAMPLES)


@pytest.mark.parametrize("network", NETWORKS)
def test_permuted_labels_change_nothing_of_the_self_supervised_part(network: str) -> None:
    objective = objective_of(joint(*TWO), None, network)
    batch = make_batch(objective)
    assert batch.labels is not None
    other = replace(batch, labels=batch.labels.roll(3))
    with torch.no_grad(), without_noise(objective):
        one, two = (objective.pairwise(made)[0] for made in (batch, other))
    kinds = [pair.kind for pair in objective.pairs]
    assert kinds == ["0/class", "0/class", "1/class"]
    assert torch.equal(one[:2], two[:2])
    assert not torch.equal(one[2], two[2])


def parts_of_the_loss(objective: Objective, batch: Batch) -> Tensor:
    """Return the loss by hand: SimCLR's mean over all images, and the label's over the labelled ones."""
    with without_noise(objective):
        losses_PB = objective.pairwise(batch)[0].double()
    labels_B = batch.labels
    assert labels_B is not None
    return (losses_PB[0] + losses_PB[1]).mean() / 2 + 0.5 * losses_PB[2][labels_B >= 0].mean()


def test_each_part_is_a_mean_over_its_own_images() -> None:
    objective = objective_of(joint((1, SIMCLR), (0.5, SUPERVISED)))
    batch = make_batch(objective)
    assert batch.labels is not None
    known = int((batch.labels >= 0).sum())
    assert 0 < known < SAMPLES
    wanted = parts_of_the_loss(objective, batch)
    losses = objective(batch, SAMPLES)
    torch.testing.assert_close(losses.total.double(), wanted, rtol=1e-5, atol=1e-6)
    # Both are distinguished.
    measured = {name: values[~values.isnan()] for name, values in losses.measures.items()}
    assert len(measured["0/loss/clean"]) == SAMPLES
    assert len(measured["1/loss/clean"]) == known
    total = measured["0/loss/clean"].mean() + measured["1/loss/clean"].mean()
    torch.testing.assert_close(total.double(), wanted, rtol=1e-5, atol=1e-6)
    assert set(measured) >= {"1/accuracy/top1", "1/accuracy/top5"}
    assert not losses.valid and losses.labelled is None  # every image has a loss


def test_without_any_label_the_other_part_trains_on() -> None:
    objective = objective_of(joint((1, SIMCLR), (0.5, SUPERVISED)))
    batch = make_batch(objective)
    assert batch.labels is not None
    losses = objective(replace(batch, labels=torch.full_like(batch.labels, -1)), SAMPLES)
    alone = objective_of(SIMCLR)
    torch.testing.assert_close(losses.total, alone(make_batch(alone), SAMPLES).total)


def test_the_early_clean_loss_counts_as_the_late_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack along the clean gradient makes the clean backward pass first: of both parts, each over its images."""
    found = []
    for early in (True, False):
        if not early:
            monkeypatch.setattr(clean_loss, "reads", lambda *_: True)
        attack = Adversarial(4 / 255, branch="main", gradient="clean", measure=0)
        objective = objective_of(joint((1, MOCO), (0.5, SUPERVISED)), Sum((1, Clean()), (0.5, attack)))
        losses = objective(make_batch(objective), SAMPLES)
        losses.total.backward()
        found.append((losses.total, {n: p.grad for n, p in objective.named_parameters() if p.requires_grad}))
    (one, grads), (two, wanted) = found
    torch.testing.assert_close(one, two)
    for name, gradient in wanted.items():
        torch.testing.assert_close(grads[name], gradient, rtol=1e-3, atol=1e-6)


def test_micro_batches_add_up() -> None:
    """Of parts that compare no images with others of the batch, if all have labels."""
    objective = objective_of(joint((1, MOCO), (0.5, SUPERVISED)), None, "vit")
    whole = make_batch(objective, 16)
    whole = replace(whole, labels=whole.index % CLASSES)

    def gradients(batches: list[Batch]) -> dict[str, Tensor]:
        objective.zero_grad()
        with without_noise(objective):
            for batch in batches:
                objective(batch, 16).total.backward()
        return {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}

    wanted = gradients([whole])
    for name, gradient in gradients([rows_of(whole, slice(0, 4)), rows_of(whole, slice(4, 16))]).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6)


# ---- Kinds


def test_an_attack_on_one_part_adds_the_loss_of_that_part() -> None:
    strategy = Sum((1.0, Clean()), (1.0, Adversarial(4 / 255, kinds=("0",))), (1.0, CutMix()))
    objective = objective_of(joint(*TWO), strategy)
    batch = make_batch(objective)
    losses = objective(batch, SAMPLES)
    _, attacked, mixed = (term for term, _ in losses.terms)
    assert {pair.kind for pair in objective.pairs_of(attacked)} == {"0/class"}
    assert {pair.kind for pair in objective.pairs_of(mixed)} == {"0/class", "1/class"}
    assert {"0/loss/adversarial", "0/loss/cutmix", "1/loss/cutmix"} <= set(losses.measures)
    assert "1/loss/adversarial" not in losses.measures
    assert {"0/flipped/adversarial", "1/flipped/cutmix", "0/margin/clean", "1/margin/clean"} <= set(losses.measures)
    assert "1/flipped/adversarial" not in losses.measures


def test_a_regulariser_counts_with_the_terms_of_its_part() -> None:
    config = joint((0.5, VICREG), (1.0, SUPERVISED))
    totals = {}
    for kinds in (("0",), ("1",)):
        objective = objective_of(config, Sum((1.0, Clean()), (1.0, Adversarial(4 / 255, kinds=kinds))))
        batch = make_batch(objective)
        assert batch.labels is not None
        losses = objective(replace(batch, labels=batch.labels.clamp(min=0)), SAMPLES)
        assert losses.regulariser is not None
        samples = sum(losses_B.mean() for _, losses_B in losses.terms)
        totals[kinds] = (losses.total.detach() - samples) / losses.regulariser
    alone = objective_of(VICREG)
    own = alone(make_batch(alone), SAMPLES).regulariser
    assert own is not None and losses.regulariser.item() == pytest.approx(0.5 * own.item(), rel=1e-5)
    assert totals["0",].item() == pytest.approx(2, rel=1e-4)
    assert totals["1",].item() == pytest.approx(1, rel=1e-4)


def test_an_attack_climbs_the_loss_of_its_part_alone() -> None:
    """As if the other part were not there: the attacked pixels are those of the part alone."""
    attack = Adversarial(4 / 255)
    alone, both = objective_of(SIMCLR, attack), objective_of(joint(*TWO), replace(attack, kinds=("0",)))
    found = [objective(make_batch(objective), SAMPLES).terms[0][0].batch.hard for objective in (alone, both)]
    for number in range(2):
        slots = Slot("view", number), Slot("0/view", number)
        one, two = (hard[slot].pixels() for hard, slot in zip(found, slots, strict=True))
        assert torch.equal(one, two)


def test_views_may_be_chosen_by_one_part_alone() -> None:
    alone, both = objective_of(SIMCLR, HardViews(4)), objective_of(joint(*TWO), HardViews(4, kinds=("0",)))
    one, two = (objective(make_batch(objective), SAMPLES).batch.selection for objective in (alone, both))
    assert one is not None and two is not None
    rows = [selection.table[selection.choice].sort(1).values for selection in (one, two)]
    # The label's part looks at the first view, so here both orders are assignments, equally hard.
    assert torch.equal(rows[0], rows[1])
    assert len(two.table) == 2 * len(one.table)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (CutMix(kinds=("2",)), "no pairs 2: choose among 0, 0/class, 1, 1/class"),
        (Adversarial(kinds=("class",)), "no pairs class"),
        (HardViews(4, kinds=()), "no kind"),
    ],
    ids=["cutmix", "adversarial", "hard views"],
)
def test_kinds_that_the_method_has_not_are_refused(strategy: Strategy, words: str) -> None:
    with pytest.raises(UserError, match=words):
        objective_of(joint(*TWO), strategy)


def test_kinds_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UserError, match="same kinds"):
        Chain(CutMix(kinds=("1",)), Adversarial(kinds=("0",)))
    with pytest.raises(UserError, match="kinds out"):
        Adversarial(kinds=("0",), gradient="clean")
    with pytest.raises(UserError, match="drop one"):
        HardViews(4, kinds=("0",), best_locals=True)
    Chain(HardViews(4, kinds=("0",)), CutMix(kinds=("1",)), Adversarial(kinds=("1",)))


# ---- Weights that change


def at(batch: Batch, epoch: int, fraction: float = 0.5) -> Batch:
    return replace(batch, clock=Clock(0, epoch, 10, int(1000 * fraction), 1000))


def test_a_part_that_begins_later_takes_no_part_before() -> None:
    late = joint((1, SIMCLR), Part(0.5, SUPERVISED, begin=3))
    strategy = Chain(HardViews(4), Sum((1, Clean()), (1, Adversarial(4 / 255, kinds=("1",))), (1, CutMix())))
    objective, alone = (
        objective_of(late, strategy),
        objective_of(SIMCLR, Chain(HardViews(4), Sum((1, Clean()), (1, CutMix())))),
    )
    losses, wanted = (o(at(make_batch(o), 2), SAMPLES) for o in (objective, alone))
    assert torch.equal(losses.total, wanted.total)
    assert torch.equal(losses.batch.selection.hardness, wanted.batch.selection.hardness)
    losses.total.backward()
    assert all(p.grad is None for p in joined(objective).parts[1].head.parameters())  # type: ignore[union-attr]
    objective.method.update(losses.encoded, losses.batch.clock, losses.batch.samples)
    assert {pair.kind for pair in objective.pairs} == {"0/class"}
    losses = objective(at(make_batch(objective), 3), SAMPLES)
    assert {pair.kind for pair in objective.pairs} == {"0/class", "1/class"}
    assert [term.name for term, _ in losses.terms] == ["clean", "adversarial", "cutmix"]


def test_a_weight_grows() -> None:
    objective = objective_of(joint((1, SIMCLR), Part(0.5, SUPERVISED, ramp=0.5)))
    weights = []
    for fraction in (0.0, 0.25, 0.5, 1.0):
        losses = objective(at(make_batch(objective), 0, fraction), SAMPLES)
        objective.method.update(losses.encoded, losses.batch.clock, losses.batch.samples)
        weights.append(sum(pair.weight for pair in objective.pairs if pair.part == "1"))
    assert weights == [0, 0.25, 0.5, 0.5]


def test_a_momentum_encoder_that_begins_later_begins_with_the_trained_weights() -> None:
    objective = objective_of(joint((1, SUPERVISED), Part(1, MOCO, begin=3)))
    moco = joined(objective).parts[1]
    encoder = moco.get_submodule("momentum")
    steps(objective)  # in epoch 1

    def same() -> bool:
        online, copy = objective.method.backbone.state_dict(), encoder.get_submodule("backbone").state_dict()
        return all(torch.equal(online[name], tensor) for name, tensor in copy.items())

    assert not same()
    clock = at(make_batch(objective), 2).clock
    objective.method.begin_epoch(clock, lambda: iter(()))
    assert not same()
    for _ in range(2):  # as a resume at the very beginning of an epoch may
        objective.method.begin_epoch(replace(clock, epoch=3), lambda: iter(()))
        assert same()


# ---- State, export, refusals


def test_the_state_holds_the_backbone_once() -> None:
    objective = objective_of(joint(*TWO))
    names = list(state(objective))
    assert len(names) == len(set(names))
    assert sum("conv1.weight" in name for name in names) == 1
    other = objective_of(joint(*TWO))
    steps(other)
    objective.load_state_dict(other.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(objective.parameters(), other.parameters(), strict=True))
    assert joined(objective).parts[1].backbone is objective.method.backbone
    missing = {name: tensor for name, tensor in other.state_dict().items() if "backbone.conv1" not in name}
    with pytest.raises(RuntimeError, match=r"method.backbone.conv1.weight"):
        objective.load_state_dict(missing)


def test_the_classifier_leaves_with_the_network_that_it_was_trained_on() -> None:
    method = objective_of(joint((1, DINO), (1, SUPERVISED)), None, "vit").method
    assert method.exported is method.backbone
    assert isinstance(method.classifier, nn.Linear) and method.classes == CLASSES
    assert method.exported_head is None  # DINO's is its teacher's
    unlabelled = objective_of(joint((1, DINO), (1, SIMCLR)), None, "vit").method
    assert unlabelled.exported is unlabelled.get_submodule("parts.0.momentum.backbone")
    assert unlabelled.exported_head is unlabelled.get_submodule("parts.0.momentum.head")
    beside = objective_of(joint((1, SUPERVISED), (1, SIMCLR)), None, "vit").method
    assert beside.exported_head is beside.get_submodule("parts.1.projector")


def test_what_the_parts_freeze_and_refuse_the_sum_does() -> None:
    method = joined(objective_of(joint((1, DINO), (1, SUPERVISED)), None, "vit"))
    assert list(method.frozen(Clock(0, 0, 0, 0, 100))) == [method.get_submodule("parts.0.head.last")]
    assert method.needs_others is False and joined(objective_of(joint(*TWO))).needs_others
    with pytest.raises(UserError, match=r"training.group is 1"):
        joined(objective_of(joint((1, SUPERVISED), (1, MOCO)))).check_group(1)
    with pytest.raises(UserError, match="MixUp"):
        objective_of(joint((1, IBOT), (1, SUPERVISED)), MixUp(), "vit")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((), "one must be positive"),
        ((Part(0.0, SIMCLR),), "one must be positive"),
        ((Part(1.0, SIMCLR, begin=2), Part(1.0, SUPERVISED, ramp=0.1)), "nothing to train on"),
    ],
)
def test_sums_without_anything_to_train_on_are_refused(parts: tuple[Part, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        JointConfig(parts)


@pytest.mark.parametrize("values", [{"weight": -1.0}, {"ramp": 2.0}, {"begin": -1}], ids=str)
def test_weights_that_are_none_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"method.parts.{next(iter(values))}"):
        Part(**{"weight": 1.0, "method": SIMCLR, **values})


def test_a_sum_inside_a_sum() -> None:
    flat = objective_of(joint((1, SIMCLR), (0.5, SUPERVISED)))
    nested = objective_of(joint((1, joint((1, SIMCLR), (0.5, SUPERVISED)))))
    assert {pair.kind for pair in nested.pairs} == {"0/0/class", "0/1/class"}
    one, two = (objective(make_batch(objective), SAMPLES).total for objective in (flat, nested))
    torch.testing.assert_close(one, two)
    assert not any("parts.0.backbone" in name for name in state(nested))
