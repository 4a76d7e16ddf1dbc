"""Which compositions mean something; the others are refused with the reason."""

import pytest

from hardviews.errors import UserError
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.strategy import Chain, Clean, Strategy, Sum
from hardviews.views.plan import Slot
from tests.laws.cases import build, make_batch

SELECT, CUT, MIX, ATTACK = HardViews(4), CutMix(), MixUp(), Adversarial()

REFUSED = {
    "attack, select": ((ATTACK, SELECT), "always win the selection"),
    "mix, select": ((CUT, SELECT), "cannot be compared by loss"),
    "attack, mix": ((ATTACK, MIX), "loses its meaning"),
    "select twice": ((SELECT, SELECT), "leaves no candidates"),
    "mix twice": ((CUT, MIX), "two labels already"),
    "attack twice": ((ATTACK, Adversarial(steps=3)), "leave the pixel bound"),
    "not neighbours": ((ATTACK, Clean(), SELECT), "always win the selection"),
    "across a sum": ((CUT, Sum((1.0, Clean()), (0.0, CUT))), "two labels already"),
    "inside a sum": ((SELECT, Sum((1.0, Clean()), (1.0, ATTACK)), MIX), "loses its meaning"),
    "inside chains": ((Chain(SELECT, CUT), Chain(ATTACK), Chain(Clean(), CUT)), "two labels already"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason(case: str) -> None:
    links, reason = REFUSED[case]
    with pytest.raises(UserError, match=reason) as caught:
        Chain(*links)
    assert "select, then mix, then attack" in str(caught.value)


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
        (lambda: Sum((1.0, Clean()), (-0.5, CutMix())), "no weight may be negative"),
        (lambda: Adversarial(4), "write 4/255 as 0.0157"),
        (lambda: Adversarial(-0.1), "bounds pixels"),
        (lambda: Adversarial(steps=0), "must be 1 or more"),
        (lambda: Adversarial(every=0), "must be 1 or more"),
        (lambda: HardViews(limit=0), "must be 1 or more"),
        (lambda: HardViews(every=0), "must be 1 or more"),
        (lambda: CutMix(alpha=0), "alpha > 0"),
        (lambda: MixUp(fixed=1.5), "between 0 and 1"),
        (lambda: build("simsiam", HardViews(3)), "choose a multiple of 2"),
        (lambda: build("simclr", HardViews(0)), "choose a multiple of 2"),
        (lambda: build("toy_centre", HardViews(4, local_candidates=1)), "Ask for at least 2"),
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
