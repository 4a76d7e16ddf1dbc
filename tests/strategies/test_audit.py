"""Audits compare a choice with exact scores, and leave no trace."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from hardviews.batch import Selection
from hardviews.objective.losses import Losses
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.audit import AGREEMENT, CORRELATION, RECOVERED, compared, rank_correlation, with_recovered
from hardviews.strategies.candidates import Candidates
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.least_overlap import LeastOverlap
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.random_views import RandomViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.meter import Meter
from hardviews.views.plan import Slot
from tests.laws.cases import assert_same_state, build, make_batch, state, train_step

GUESSES: dict[str, Candidates] = {
    "scored smaller": HardViews(4, size=8),
    "overlap": LeastOverlap(4),
    "predicted": PredictedViews(4, warm_up=1),
}


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize(("method", "network"), [("simclr", "batchnorm"), ("dino", "vit"), ("toy_queue", "batchnorm")])
def test_a_run_is_the_same_with_and_without_audits(method: str, network: str, guess: str) -> None:
    after = []
    for every in (0, 1):
        objective = build(method, replace(GUESSES[guess], audit=every), network)
        torch.manual_seed(3)
        losses = [train_step(objective, make_batch(objective, first=8 * step, step=step)) for step in range(3)]
        after.append((torch.stack(losses), state(objective), torch.get_rng_state()))
    assert torch.equal(after[0][0], after[1][0]) and torch.equal(after[0][2], after[1][2])
    assert_same_state(after[0][1], after[1][1])


def audited(strategy: Strategy, method: str = "simclr", step: int = 0) -> tuple[Objective, Losses]:
    objective = build(method, strategy)
    return objective, objective(make_batch(objective, step=step), 8)


@pytest.mark.parametrize("guess", GUESSES)
def test_measures_are_those_of_exact_scores(guess: str) -> None:
    objective, losses = audited(replace(GUESSES[guess], audit=1), step=1)
    selection = losses.selecting.selection
    assert selection is not None and selection.audited
    exact = objective.score(make_batch(objective, step=1), selection.table).numpy()
    scores = selection.hardness if selection.scores is None else selection.scores
    assert scores is not None
    columns = np.arange(8)
    chosen = exact[selection.choice.numpy(), columns]
    np.testing.assert_array_equal(losses.measures[AGREEMENT], exact.argmax(0) == selection.choice.numpy())
    meter = Meter(torch.device("cpu"))
    meter.add_losses(losses, objective.pairs)
    recovered = (chosen.mean() - exact.mean()) / (exact.max(0).mean() - exact.mean())
    assert meter.report()[RECOVERED] == pytest.approx(recovered, rel=1e-4)
    if guess != "predicted":  # which has not seen anything, and predicts alike
        correlation = [spearmanr(scores[:, i], exact[:, i]).statistic for i in columns]
        np.testing.assert_allclose(losses.measures[CORRELATION], correlation, rtol=1e-6)


def test_first_views_are_not_audited_as_if_they_were_chosen() -> None:
    """`PredictedViews` trains on them while it learns."""
    strategy = PredictedViews(4, warm_up=3, audit=1)
    audits = [AGREEMENT in audited(strategy, step=step)[1].measures for step in range(5)]
    assert audits == [False, False, False, True, True]


@given(st.integers(1, 7), st.data())
def test_ranks_with_ties(assignments: int, data: st.DataObject) -> None:
    column = st.lists(st.integers(0, 3), min_size=assignments, max_size=assignments)
    a, b = (np.array(data.draw(column)) for _ in range(2))
    found = rank_correlation(torch.from_numpy(a)[:, None], torch.from_numpy(b)[:, None]).item()
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(a, b).statistic)


def test_the_exact_choice_agrees_and_recovers_all() -> None:
    exact_AB = torch.rand(6, 5)
    selection = Selection((Slot("view", 0),), torch.zeros(6, 1), exact_AB, exact_AB.argmax(0), {})
    found = compared(selection, exact_AB)
    assert found[AGREEMENT].eq(1).all() and found[CORRELATION].allclose(torch.ones(5).double())
    means = with_recovered({name: values.mean().item() for name, values in found.items()})
    assert means[RECOVERED] == pytest.approx(1)
    assert RECOVERED not in with_recovered({"loss": 1.0})


@pytest.mark.parametrize(
    "strategy",
    [HardViews(4, audit=1), HardViews(4, size=8, choose="easiest", audit=1), RandomViews(4, audit=1), Clean()],
)
def test_choices_that_are_not_guesses_are_not_audited(strategy: Strategy) -> None:
    assert AGREEMENT not in audited(strategy)[1].measures


def test_only_every_so_manieth_choice_is_audited() -> None:
    strategy = LeastOverlap(4, every=2, audit=3)
    found = [AGREEMENT in audited(strategy, step=step)[1].measures for step in range(12)]
    assert [step for step, there in enumerate(found) if there] == [4, 10]
    assert AGREEMENT not in audited(LeastOverlap(4, audit=0), step=99)[1].measures


def test_samples_without_a_label_are_left_out() -> None:
    _, losses = audited(LeastOverlap(4, audit=1), "toy_clusters")
    assert losses.labelled is not None and not losses.labelled.all()
    assert torch.equal(losses.measures[AGREEMENT].isnan(), ~losses.labelled)


def test_a_choice_inside_a_composition_is_audited_once() -> None:
    attacks = Sum((1.0, Clean()), (1.0, Adversarial(4 / 255)))
    _, losses = audited(Chain(HardViews(4, size=8, audit=1), attacks))
    assert losses.measures[AGREEMENT].shape == (8,)
