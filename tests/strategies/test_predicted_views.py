"""Views chosen by a loss that is predicted from their parameters."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from hardviews.batch import Batch
from hardviews.errors import UserError
from hardviews.objective.objective import Objective
from hardviews.runs.state import from_tensors, misfit, to_tensors
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.scout import Scout
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.composition import check
from hardviews.train.recipe import Training
from hardviews.views.augmentation import Augmentation, Jitter
from hardviews.views.pair_features import FEATURES, global_pairs, pair_features
from hardviews.views.params import draw
from hardviews.views.plan import Pair, Plan, Pool, Slot
from tests.laws.cases import METHODS, build, make_batch, state, train_step

COLOURED = Augmentation(
    size=16, jitter=Jitter(0.4, 0.4, 0.4, 0.1, probability=0.8), grayscale=0.2, blur=0.5, solarise=0.2
)


def features(objective: Objective, batch: Batch) -> Tensor:
    """Return the features (A, B, F) of all assignments."""
    table = objective.plan.assignments(objective.pairs)
    found = pair_features(batch.views, objective.plan.slots, global_pairs(objective.plan, objective.pairs), table)
    assert found is not None
    return found


def coloured(objective: Objective, samples: int, first: int = 0) -> Batch:
    """Return a batch whose rows vary in all columns."""
    batch = make_batch(objective, samples, first=first)
    rows = {
        slot: torch.from_numpy(
            draw(
                COLOURED,
                0,
                0,
                batch.position.numpy(),
                objective.plan.view_number(slot),
                np.full(samples, 60),
                np.full(samples, 80),
            )
        )
        for slot in batch.views
    }
    return replace(batch, views={slot: replace(view, rows=rows[slot]) for slot, view in batch.views.items()})


def planted() -> Tensor:
    return torch.randn(len(FEATURES), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("method", ["simsiam", "toy_queue", "dino", "toy_clusters"])
def test_a_loss_that_is_linear_in_the_features_is_learnt(method: str) -> None:
    objective = build(method, PredictedViews(4, ridge=1e-6))
    scout, weight_F = objective.scout, planted()
    assert scout is not None
    for number in range(12):
        seen_BF = features(objective, coloured(objective, 64, first=64 * number))[number % 3]
        scout.learn([scout.lesson(seen_BF, seen_BF @ weight_F + 3.0, None)])
    batch = coloured(objective, 64, first=4096)
    (term,) = objective.strategy(batch, objective)
    assert term.batch.selection is not None
    hardness_AB = features(objective, batch) @ weight_F
    chosen_B = hardness_AB.gather(0, term.batch.selection.choice[None])[0]
    torch.testing.assert_close(chosen_B, hardness_AB.amax(0), rtol=1e-3, atol=1e-3)


def test_the_prediction_is_that_of_ridge_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    seen_BF = torch.randn(200, 5, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 10, 0.1, 1, 3]) + 7
    seen_BF[:, 3] = 2.0  # never varies
    losses_B = seen_BF @ torch.tensor([1.0, 0.2, -3, 0, 0.5], dtype=torch.float64) + torch.randn(
        200, generator=generator, dtype=torch.float64
    )
    scout = Scout(5, decay=0.5, ridge=0.1, warm_up=1)
    scout.learn([scout.lesson(seen_BF[:80], losses_B[:80], None), scout.lesson(seen_BF[80:], losses_B[80:], None)])
    new_ABF = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    scale_F = seen_BF.std(0, correction=0)
    scale_F[3] = torch.inf
    ridge = Ridge(alpha=0.1 * 200).fit((seen_BF / scale_F).numpy(), losses_B.numpy())
    expected = torch.from_numpy(ridge.predict((new_ABF / scale_F).reshape(12, 5).numpy())).reshape(3, 4)
    torch.testing.assert_close(scout.predict(new_ABF), expected - losses_B.mean())


def test_what_was_learnt_fades() -> None:
    scout = Scout(2, decay=0.5, ridge=0.1, warm_up=1)
    lessons = [scout.lesson(torch.rand(4, 2).double(), torch.rand(4), None) for _ in range(3)]
    for lesson in lessons:
        scout.learn([lesson])
    torch.testing.assert_close(scout.sums, lessons[0] / 4 + lessons[1] / 2 + lessons[2])
    assert scout.steps == 3


def test_samples_without_a_label_teach_nothing() -> None:
    scout = Scout(2, decay=0.5, ridge=0.1, warm_up=1)
    seen_BF, losses_B = torch.rand(4, 2).double(), torch.tensor([1.0, torch.nan, 2.0, 3.0])
    known_B = ~losses_B.isnan()
    torch.testing.assert_close(
        scout.lesson(seen_BF, losses_B, known_B), scout.lesson(seen_BF[known_B], losses_B[known_B], None)
    )


def test_before_it_has_seen_enough_it_takes_the_first_views() -> None:
    objective = build("simsiam", PredictedViews(4, warm_up=2))
    choices = []
    for step in range(4):
        batch = make_batch(objective, 32, first=32 * step, step=step)
        (term,) = objective.strategy(batch, objective)
        assert term.batch.selection is not None
        choices.append(term.batch.selection.choice)
        train_step(objective, batch)
    assert not choices[0].any() and not choices[1].any()
    assert choices[2].any() and choices[3].any()


@pytest.mark.parametrize(
    "strategy",
    [
        PredictedViews(4, warm_up=1),
        Chain(PredictedViews(4, warm_up=1), Sum((1.0, CutMix()), (1.0, Clean()))),
        Sum((0.5, Clean()), (1.0, PredictedViews(4, warm_up=1))),
    ],
    ids=["alone", "mixed", "beside the first views"],
)
def test_it_learns_from_the_views_that_were_trained_on(strategy: Strategy) -> None:
    objective = build("simclr", strategy)
    train_step(objective, make_batch(objective))
    assert objective.scout is not None
    batch = make_batch(objective, first=8, step=1)
    losses = objective(batch, 8)
    term, losses_B = next(t for t in losses.terms if t[0].batch.selection is not None and not t[0].batch.hard)
    selection = term.batch.selection
    assert selection is not None and selection.choice.any()
    chosen_BF = features(objective, batch)[selection.choice, torch.arange(8)]
    torch.testing.assert_close(losses.lesson, objective.scout.lesson(chosen_BF, losses_B, None))


def test_nothing_is_learnt_by_choosing() -> None:
    objective = build("simsiam", PredictedViews(4, warm_up=1))
    train_step(objective, make_batch(objective))
    before = state(objective)
    objective(make_batch(objective, step=1), 8)
    assert torch.equal(before["scout.sums"], objective.state_dict()["scout.sums"])


def test_checkpoints_hold_what_was_learnt() -> None:
    trained = build("simsiam", PredictedViews(4, warm_up=1))
    train_step(trained, make_batch(trained))
    optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], 0.1)
    tensors = to_tensors(trained, optimizer)
    assert {"model.scout.sums", "model.scout.steps"} <= tensors.keys()
    resumed = build("simsiam", PredictedViews(4, warm_up=1), seed=1)
    from_tensors(tensors, resumed, torch.optim.SGD([p for p in resumed.parameters() if p.requires_grad], 0.1))
    batch = make_batch(trained, first=8, step=1)
    assert torch.equal(train_step(trained, batch), train_step(resumed, batch))
    assert torch.equal(trained.state_dict()["scout.sums"], resumed.state_dict()["scout.sums"])


def test_a_checkpoint_of_a_run_without_it_is_refused_and_plain_runs_hold_none() -> None:
    plain, predicted = build("simsiam", Clean()), build("simsiam", PredictedViews(4))
    assert not any("scout" in name for name in plain.state_dict())
    optimizers = [torch.optim.SGD([p for p in o.parameters() if p.requires_grad], 0.1) for o in (plain, predicted)]
    reason = misfit(to_tensors(plain, optimizers[0]), predicted, optimizers[1])
    assert reason is not None and "it has no scout.sums" in reason
    with pytest.raises(UserError, match=r"scout\.sums"):
        from_tensors(to_tensors(predicted, optimizers[1]), plain, optimizers[0])


def test_it_refuses_what_it_does_not_choose() -> None:
    with pytest.raises(UserError, match="leave local_candidates out"):
        build("dino", PredictedViews(4, local_candidates=6, limit=3))

    class Single:
        """A method with one global view."""

        def plan(self) -> Plan:
            return Plan((Pool("view", 1, Augmentation()), Pool("local", 2, Augmentation(), target=False)))

        def pairs(self) -> tuple[Pair, ...]:
            return tuple(Pair(Slot("local", i), Slot("view", 0), 0.5) for i in range(2))

    reason = PredictedViews(4).refuses(Single())  # type: ignore[arg-type]
    assert reason is not None and "the method has a single one" in reason


def test_settings_that_learn_nothing_are_refused() -> None:
    with pytest.raises(UserError, match=r"decay is 0\.0.*ridge is 0.*warm_up is 0"):
        PredictedViews(4, decay=0.0, ridge=0, warm_up=0)
    check(METHODS["simsiam"](torch.nn.Identity(), 12), PredictedViews(4), Training())


def test_pairs_are_those_that_the_method_joins() -> None:
    view, a, b = Augmentation(), Slot("view", 0), Slot("view", 1)
    plan = Plan((Pool("view", 2, view), Pool("local", 1, view, target=False)))
    local = Pair(Slot("local", 0), a, 1.0)
    assert global_pairs(plan, (Pair(b, a, 0.5), Pair(a, b, 0.5), local)) == [Pair(a, b, 1.0)]
    assert global_pairs(plan, (Pair(b, a, 1.0), local)) == [Pair(b, a, 1.0)]
    assert global_pairs(plan, (local,)) == [Pair(a, b, 1.0)]


@given(st.integers(0, 10_000))
def test_features_of_a_pair_do_not_depend_on_its_order(position: int) -> None:
    objective = build("simsiam", PredictedViews(4))
    batch = coloured(objective, 4, first=position)
    a, b = Slot("view", 0), Slot("view", 1)
    table = torch.tensor([[0, 1]])
    one, other = (pair_features(batch.views, [a, b], [pair], table) for pair in (Pair(a, b, 1.0), Pair(b, a, 1.0)))
    assert one is not None and other is not None and one.isfinite().all()
    torch.testing.assert_close(one[..., 16:], other[..., 16:])
    torch.testing.assert_close(one[..., :8], other[..., 8:16])
    assert one.shape == (1, 4, len(FEATURES))
