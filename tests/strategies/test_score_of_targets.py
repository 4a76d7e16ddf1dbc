"""`score="targets"`: candidates are scored as targets of views without a rival, and the trained network skips them."""

import pytest
import torch

from hardviews.errors import UserError
from hardviews.models.flops import work
from hardviews.models.noise import without_noise
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Strategy
from tests.laws.cases import METHODS, build, make_batch, networks
from tests.laws.laws import assigned
from tests.strategies.test_cost import cost_of
from tests.strategies.test_cost_of_teachers import count

MULTI_CROP = ("dino", "ibot", "swav", "toy_centre")


@pytest.mark.parametrize(("method", "network"), [(m, n) for m in MULTI_CROP for n in networks(m)])
@pytest.mark.parametrize("choose", ["hardest", "easiest"])
def test_the_choice_is_that_of_brute_force(method: str, network: str, choose: str) -> None:
    """The loss of each assignment, tried on its own, without the pairs of an online view that has rivals."""
    objective = build(method, HardViews(4, score="targets", choose=choose), network)  # type: ignore[arg-type]
    batch = make_batch(objective)
    pairs = [pair for pair in objective.pairs if pair.online.pool == "local"]
    assert 0 < len(pairs) < len(objective.pairs)
    with without_noise(objective):
        selection = objective(batch, len(batch)).selecting.selection
        assert selection is not None and selection.hardness is not None
        table = objective.plan.assignments(objective.pairs)
        with torch.no_grad():
            batches = [assigned(batch, objective.plan.slots, row) for row in table.tolist()]
            losses = [objective.reduce(objective.pairwise(one, pairs=pairs)[0], pairs=pairs) for one in batches]
    torch.testing.assert_close(selection.hardness, torch.stack(losses), rtol=1e-5, atol=1e-6)
    hardest = torch.stack(losses).argmax(0) if choose == "hardest" else torch.stack(losses).argmin(0)
    assert torch.equal(selection.choice, hardest)


# Passes of the student without gradient and with it, of the teacher; views whose outputs are made for a loss, of the
# student and of the teacher; matrix products.
CASES: list[tuple[Strategy, tuple[int, ...]]] = [
    (HardViews(4, score="targets", noise="training"), (0, 4, 4, 2 + 4, 4 + 2, 2)),
    (HardViews(4, score="targets"), (2, 4, 4, 2 + 4, 4 + 2, 2)),
    (HardViews(4, score="targets", noise="training", size=8), (0, 4, 4 + 2, 2 + 4, 4 + 2, 2)),
    (HardViews(8, score="targets", noise="training"), (0, 4, 8, 2 + 4, 8 + 2, 2)),
]


@pytest.mark.parametrize(("strategy", "expected"), CASES, ids=["as trained", "own noise", "small", "eight"])
def test_the_student_looks_at_no_candidate(
    strategy: Strategy, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = count("dino", strategy, monkeypatch)
    names = ("student", "student with gradient", "teacher", "normaliser", "expected", "bmm")
    assert tuple(counts[name] for name in names) == expected


def test_the_computed_cost() -> None:
    method = build("dino", HardViews(4), "vit").method
    plain = cost_of(method, HardViews(2)).units
    # Two of four targets serve training; small views cost a share.
    small = work(method.backbone, 8, 16)
    assert 0.25 < small < 0.5
    assert cost_of(method, HardViews(4, score="targets", noise="training")).units == pytest.approx(plain + 4 - 2)
    assert cost_of(method, HardViews(4, score="targets")).units == pytest.approx(plain + 4 - 2 + 2 * small)
    assert cost_of(method, HardViews(4, score="targets", noise="training", size=8)).units == pytest.approx(
        plain + 4 * small
    )


@pytest.mark.parametrize("method", [name for name in METHODS if name not in MULTI_CROP])
def test_methods_without_such_pairs_refuse(method: str) -> None:
    with pytest.raises(UserError, match=r'score="targets" reads pairs .* here is none.*score="loss".*: DINO or iBOT\.'):
        build(method, HardViews(4, score="targets"))
    if method != "supervised":  # which has one view to choose
        build(method, HardViews(2, score="targets"))  # nothing is scored


def test_chosen_local_views_refuse() -> None:
    with pytest.raises(UserError, match="choose among global views alone"):
        build("dino", HardViews(4, local_candidates=5, score="targets", limit=4))
    with pytest.raises(UserError, match=r'best_locals.* and score="targets".*drop one'):
        HardViews(4, local_candidates=5, best_locals=True, score="targets")
