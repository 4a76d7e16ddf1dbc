"""Which compositions mean something; the others are refused with the reason."""

from dataclasses import replace

import pytest
import torch

from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.methods.dino import DINOConfig
from hardviews.methods.simclr import SimCLRConfig
from hardviews.models.backbones import Backbone
from hardviews.recipes.overrides import overridden
from hardviews.recipes.smoke import smoke
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.compose import Chain, Sum, Weighted
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.composition import check
from hardviews.train.recipe import Training
from hardviews.views.augmentation import Augmentation
from hardviews.views.plan import Slot
from tests.laws import toys
from tests.laws.cases import METHODS, VIEW, build, make_batch, vit

SELECT, CUT, MIX, ATTACK = HardViews(4), CutMix(), MixUp(), Adversarial()

REFUSED = {
    "attack, select": ((ATTACK, SELECT), "always win the selection"),
    "mix, select": ((CUT, SELECT), "cannot be compared by loss"),
    "attack, mix": ((ATTACK, MIX), "loses its meaning"),
    "select twice": ((SELECT, SELECT), "leaves no candidates"),
    "average, select": ((AllPairs(4), SELECT), "leaves no candidates"),
    "mix twice": ((CUT, MIX), "two labels already"),
    "attack twice": ((ATTACK, Adversarial(steps=3)), "leave the pixel bound"),
    "not neighbours": ((ATTACK, Clean(), SELECT), "always win the selection"),
    "across a sum": ((CUT, Sum((1.0, Clean()), (0.0, CUT))), "two labels already"),
    "inside a sum": ((SELECT, Sum((1.0, Clean()), (1.0, ATTACK)), MIX), "loses its meaning"),
    "inside chains": ((Chain(SELECT, CUT), Chain(ATTACK), Chain(Clean(), CUT)), "two labels already"),
}

# No order of the links helps if two do the same.
TWICE = {"select twice", "average, select", "mix twice", "attack twice", "across a sum", "inside chains"}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason(case: str) -> None:
    links, reason = REFUSED[case]
    with pytest.raises(UserError, match=reason) as caught:
        Chain(*links)
    told = str(caught.value)
    assert ("Order the links as select, then mix, then attack." in told) == (case not in TWICE)
    assert ("parts of a Sum" in told) == (case in TWICE)


MEANT: dict[str, Strategy] = {
    "select, mix, attack": Chain(SELECT, CUT, ATTACK),
    "select, sum": Chain(SELECT, Sum((1.0, Clean()), (1.0, ATTACK), (1.0, CUT), (1.0, Chain(MIX, ATTACK)))),
    "nothing": Chain(),
    "select with nothing around": Chain(Clean(), SELECT, Clean()),
    "sum of selections": Sum((1.0, Clean()), (0.5, Chain(SELECT, ATTACK))),
}


@pytest.mark.parametrize("case", MEANT)
def test_meant(case: str) -> None:
    objective = build("simsiam", MEANT[case])
    losses = objective(make_batch(objective), 8)
    losses.total.backward()
    assert losses.total.isfinite()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sum(), "one must be positive"),
        (lambda: Sum((0.0, Clean())), "one must be positive"),
        (lambda: Sum((1.0, Clean()), (-0.5, CutMix())), "Sum.parts.weight is -0.5; it must be 0 or more"),
        (lambda: Adversarial(4), "write 4/255 as 0.0157"),
        (lambda: Adversarial(-0.1), "Adversarial.epsilon is -0.1; it must be from 0 to 1"),
        (lambda: Adversarial(steps=0), "Adversarial.steps is 0; it must be 1 or more"),
        (lambda: Adversarial(every=0), "Adversarial.every is 0; it must be 1 or more"),
        (lambda: Adversarial(step_size=2), "write 1/255 as 0.0039"),
        (lambda: Adversarial(step_size=0), "step_size is 0; .* above 0 and at most 1 .*left out for max"),
        (lambda: Adversarial(measure=-1), "measure is -1; it must be 0 or more .0 for never."),
        (lambda: Weighted(1.0, CutMix(), ramp=1.5), "a share of the run"),
        (lambda: Weighted(1.0, CutMix(), begin=-1), "begin is -1; it must be 0 or more .an epoch."),
        (lambda: Weighted(float("inf"), CutMix()), "weight is inf; it must be a finite number, 0 or more"),
        (lambda: Sum(Weighted(1.0, CutMix(), ramp=0.1), (0.0, Clean())), "leave ramp and begin of one part at 0"),
        (lambda: HardViews(limit=0), "HardViews.limit is 0; it must be 1 or more"),
        (lambda: HardViews(every=0), "HardViews.every is 0; it must be 1 or more"),
        (lambda: HardViews(local_candidates=0), "left out for as many as the method has local slots"),
        (lambda: CutMix(alpha=0), "CutMix.alpha is 0; it must be above 0"),
        (lambda: MixUp(alpha=float("nan")), "MixUp.alpha is nan; it must be a finite number, above 0"),
        (lambda: MixUp(alpha=float("inf")), "MixUp.alpha is inf; it must be a finite number"),
        (lambda: MixUp(fixed=1.5), "MixUp.fixed is 1.5; it must be from 0 to 1"),
        (lambda: build("dino", HardViews(3)), "2 kinds, of which each needs as many: choose a multiple of 2"),
        (lambda: build("simsiam", HardViews(1)), "choose 2 or more"),
        (lambda: HardViews(0), "HardViews.candidates is 0; it must be 1 or more"),
        (lambda: build("toy_centre", HardViews(4, local_candidates=1)), "Ask for at least 2"),
        (
            lambda: build("simsiam", HardViews(4, local_candidates=6)),
            "the method draws none: leave local_candidates away",
        ),
    ],
)
def test_settings_without_meaning(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=words):
        make()


def test_a_part_of_weight_zero_asks_for_nothing() -> None:
    objective = build("simsiam", Sum((1.0, Clean()), (0.0, Chain(HardViews(8), Adversarial()))))
    assert objective.plan == objective.method.plan()
    assert not any("adversarial" in name for name, _ in objective.named_parameters())


def test_every_part_selects_among_its_own_candidates() -> None:
    objective = build("simsiam", Sum((1.0, HardViews(6)), (1.0, HardViews(2)), (1.0, HardViews(4))))
    assert len(objective.plan.candidates) == 6
    batch = make_batch(objective)
    wide, first, narrow = objective.strategy(batch, objective)
    assert wide.batch.selection is not None and len(wide.batch.selection.table) == 15
    assert narrow.batch.selection is not None and len(narrow.batch.selection.table) == 6
    assert first.batch.selection is None
    assert all(first.batch.views[slot] is batch.views[slot] for slot in objective.plan.slots)


def test_a_skipped_attack_trains_on_the_selection() -> None:
    objective = build("simsiam", Chain(HardViews(4), Adversarial(4 / 255, every=2)))
    attacked, skipped = (objective(make_batch(objective, step=step), 8) for step in (0, 1))
    assert attacked.terms[0][0].batch.hard
    assert [(term.name, term.weight) for term, _ in skipped.terms] == [("clean", 1.0)]
    assert not skipped.terms[0][0].batch.hard
    assert skipped.batch.selection is not None


def test_a_skipped_attack_on_mixed_views_trains_on_those() -> None:
    objective = build("simsiam", Chain(CutMix(), Adversarial(every=2)))
    names = [objective(make_batch(objective, step=step), 8).terms[0][0].name for step in (0, 1)]
    assert names == ["cutmix_adversarial", "cutmix"]


def test_a_skipped_part_costs_its_sum_nothing() -> None:
    hexa = Sum((1.0, Clean()), (1.0, Adversarial(every=3)), average=True)
    objective = build("simsiam", hexa)
    counts = [len(objective(make_batch(objective, step=step), 8).terms) for step in range(4)]
    assert counts == [2, 1, 1, 2]


def test_names_and_weights_of_terms() -> None:
    strategy = Chain(SELECT, Sum((1.0, Clean()), (0.5, ATTACK), (0.25, Chain(CUT, ATTACK))))
    objective = build("simclr", strategy)
    terms = objective.strategy(make_batch(objective), objective)
    assert [(term.name, term.weight) for term in terms] == [
        ("clean", 1.0),
        ("adversarial", 0.5),
        ("cutmix_adversarial", 0.25),
    ]


def test_hard_views_are_online_only_and_locals_stay() -> None:
    objective = build("toy_centre", Chain(CUT, ATTACK))
    batch = make_batch(objective)
    (term,) = objective.strategy(batch, objective)
    assert set(term.batch.hard) == {Slot("even", 0), Slot("odd", 0)}
    for slot, view in batch.views.items():
        assert term.batch.views[slot] is view


# Refusals that depend on the method


class Blends(toys.ToyMasked):
    """A method whose targets lie on a grid of patches, which no blend of two pictures has."""

    blends = False


class Local(toys.ToyCentre):
    """A method whose global views are targets alone."""

    def pairs(self):  # type: ignore[no-untyped-def]
        return tuple(pair for pair in super().pairs() if pair.online.pool == "local")  # type: ignore[no-untyped-call]


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "blends", Blends)
    monkeypatch.setitem(METHODS, "local", Local)


@pytest.mark.parametrize(
    "strategy",
    [MIX, Chain(SELECT, MIX), Sum((1.0, Clean()), (0.5, Chain(SELECT, Sum((1.0, MIX), (1.0, Clean())))))],
    ids=["alone", "in a chain", "in sums in chains in sums"],
)
def test_a_method_refuses_with_its_reason(methods: None, strategy: Strategy) -> None:
    with pytest.raises(UserError, match=r"Blends cannot train under MixUp: every patch of a blended .* Use CutMix"):
        build("blends", strategy, "vit")


def test_a_method_is_asked_of_what_counts_alone(methods: None) -> None:
    build("blends", Sum((1.0, Chain(SELECT, CUT, ATTACK)), (0.0, MIX)), "vit")


@pytest.mark.parametrize("strategy", [CUT, MIX, ATTACK, Chain(SELECT, ATTACK)], ids=str)
def test_nothing_to_harden(methods: None, strategy: Strategy) -> None:
    with pytest.raises(UserError, match="only views of global slots are mixed and attacked"):
        build("local", strategy)
    build("local", SELECT)


def test_groups_of_one_image_have_nobody_to_mix_with() -> None:
    objective = build("simclr", CUT)
    with pytest.raises(UserError, match=r"set training\.group to 2 or more"):
        objective(replace(make_batch(objective), group=1), 8)


def test_groups_of_one_image_are_refused_before_a_step() -> None:
    hexa = Chain(SELECT, Sum((1.0, Clean()), (0.5, ATTACK), Weighted(0.5, MIX, begin=3)))
    method = build("simclr", Clean()).method
    with pytest.raises(UserError, match=r"MixUp mixes .* set training\.group to 2 or more"):
        check(method, hexa, Training(group=1))
    check(method, hexa, Training(group=2))
    check(method, Chain(SELECT, Sum((1.0, Clean()), (0.0, MIX), (1.0, ATTACK))), Training(group=1))


@pytest.mark.parametrize(
    ("method", "network", "words"),
    [
        ("simclr", "batchnorm", "SimCLR compares an image with the others"),
        ("simclr", "vit", "SimCLR compares an image with the others"),
        ("simsiam", "vit", r"SimSiam normalises .* \(BatchNorm\)"),
        ("dino", "batchnorm", r"DINO normalises .* \(BatchNorm\)"),
    ],
)
def test_micro_batches_of_one_image_are_refused_before_a_step(method: str, network: str, words: str) -> None:
    built = build(method, Clean(), network).method
    with pytest.raises(UserError, match=rf"{words}.* set training\.batch to 2 or more\.$"):
        check(built, Clean(), Training(batch=1, group=1))
    with pytest.raises(UserError, match=r"set training\.batch to 64 or more, or training\.accumulate to 16 or less"):
        check(built, Clean(), Training(batch=32, group=1, accumulate=32))
    check(built, Clean(), Training(batch=64, group=1, accumulate=32))


def test_one_image_is_enough_where_nothing_normalises_over_images() -> None:
    check(build("dino", Clean(), "vit").method, Clean(), Training(batch=1, group=1))


# Weights that begin late and grow


def at(epoch: int, progress: int) -> Clock:
    return Clock(seed=0, epoch=epoch, step=progress // 8, progress=progress, total=1000)


def test_a_weight_begins_late_and_grows_linearly() -> None:
    part = Weighted(0.5, CUT, ramp=0.2, begin=1)
    assert [part.at(at(e, p)) for e, p in ((0, 0), (0, 90), (1, 100), (1, 150), (2, 200), (9, 999))] == pytest.approx(
        [0, 0, 0.25, 0.375, 0.5, 0.5]
    )
    assert Weighted(0.5, CUT).at(at(0, 0)) == 0.5
    assert Weighted(0.5, CUT, ramp=0.2).at(at(0, 0)) == 0.0


def test_the_average_is_over_the_weights_that_count() -> None:
    """Also if a step leaves out an attack, so that every step of plain SGD has one length."""
    hexa = Sum(
        (1.0, Clean()),
        Weighted(1.0, Adversarial(4 / 255, every=2), ramp=0.1),
        Weighted(2.0, CUT, begin=1),
        average=True,
    )
    objective = build("simclr", hexa)
    batch = make_batch(objective)
    found = []
    for clock in (at(0, 0), at(0, 48), at(1, 112), at(1, 120)):
        terms = objective.strategy(replace(batch, clock=clock), objective)
        found.append({term.name: term.weight for term in terms if term.weight})
        assert sum(found[-1].values()) == pytest.approx(1.0)
    assert [len(weights) for weights in found] == [1, 2, 3, 2]
    assert found[1]["adversarial"] == pytest.approx(0.48 / 1.48)
    assert found[2] == pytest.approx({"clean": 0.25, "adversarial": 0.25, "cutmix": 0.5})


def test_the_command_line_sets_a_schedule() -> None:
    words = ["--strategy.links.1.parts.1.ramp", "0.05", "--strategy.links.1.parts.2.begin", "1", "--data", "d"]
    _, recipe = overridden(smoke(), [*words, "--output", "o"])
    assert isinstance(recipe.strategy, Chain)
    (hexa,) = (link for link in recipe.strategy.links if isinstance(link, Sum))
    assert [(part.weight, part.ramp, part.begin) for part in hexa.parts] == [(1, 0, 0), (0.5, 0.05, 0), (0.5, 0, 1)]
    assert hexa.average


def test_views_that_the_network_cannot_cut_into_patches_are_refused() -> None:
    """Not with timm's assertion in the first step."""
    config = DINOConfig(hidden=8, bottleneck=4, outputs=6, even=VIEW, odd=VIEW, local=Augmentation(size=12))
    with pytest.raises(UserError, match=r"DINO has local views of 12 pixels a side, but .* choose a multiple of 8"):
        check(config.build(vit(), 32), Clean(), Training())


def test_a_network_of_a_fixed_size_asks_for_no_other() -> None:
    """Nor for a multiple of its patch, which it would then refuse."""
    backbone = Backbone("swin_tiny_patch4_window7_224")
    method = SimCLRConfig(view=Augmentation(size=30)).build(backbone.build(), backbone.num_features)
    with pytest.raises(UserError, match=r"views of 224 pixels alone: give it those \(--method\.view\.size 224\)"):
        check(method, Clean(), Training())


@pytest.mark.parametrize(
    ("method", "name", "words"),
    [
        (
            "simclr",
            "inception_v3",
            r"SimCLR has view views of 16 .*Kernel size.* 299 pixels \(--method\.view\.size 299\)",
        ),
        ("simclr", "levit_128s", r"cannot look at them .* 224 pixels \(--method\.view\.size 224\), or choose another"),
        (
            "simclr",
            "swin_tiny_patch4_window7_224",
            r"views of 224 pixels alone: .* \(--method\.view\.size 224\), or choose",
        ),
        (
            "dino",
            "swin_tiny_patch4_window7_224",
            r"views of 224 pixels alone: give it those, or choose another network\.$",
        ),
        ("dino", "maxvit_tiny_rw_224", r"DINO has even views of 16 .* give it views of 224 pixels, or choose another"),
    ],
)
def test_views_that_the_network_does_not_bear_are_refused(method: str, name: str, words: str) -> None:
    """Asked without a forward pass of numbers."""
    backbone = Backbone(name)
    built = METHODS[method](backbone.build(), backbone.num_features)
    before, random = {key: value.clone() for key, value in built.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(UserError, match=words):
        check(built, Clean(), Training())
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in built.state_dict().items())
    assert all(module.training for module in built.backbone.modules())


def test_networks_that_cannot_be_asked_are_not_judged() -> None:
    """Those whose size timm does not give, and those that fail at it too."""

    class Fails(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such pass")

    for size in (None, (3, 32, 32)):
        network = Fails()
        network.pretrained_cfg = {"input_size": size}  # type: ignore[assignment]
        check(METHODS["simclr"](network, 4), Clean(), Training())
