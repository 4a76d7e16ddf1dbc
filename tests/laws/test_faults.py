"""Each law is shown to fail on a fault planted for it."""

import math
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

import hardviews.objective.objective
import hardviews.objective.step
from hardviews.batch import Term
from hardviews.methods.method import Method
from hardviews.methods.simclr import SimCLR
from hardviews.models import batchnorm
from hardviews.strategies import adversarial, bounded
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.compose import Sum, Weighted
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.least_overlap import LeastOverlap
from hardviews.strategies.random_views import RandomViews
from hardviews.views import plan
from tests.laws import laws, toys


def breaks(law: Callable[..., None], *arguments: Any) -> None:
    with pytest.raises(AssertionError):
        law(*arguments)


def test_law_1_statistics_moved_by_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def always_update(module: Any, branch: Any, update: bool) -> Any:
        with batchnorm.normalising(module, branch, True):
            yield

    monkeypatch.setattr(hardviews.objective.step, "normalising", always_update)
    breaks(laws.scoring_changes_nothing, "simsiam", "batchnorm", HardViews(4))


def test_law_1_random_stream_moved_by_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())
    breaks(laws.scoring_changes_nothing, "simclr", "vit", HardViews(4))


def test_law_2_argmin_for_argmax() -> None:
    breaks(laws.selection_equals_brute_force, "simclr", "batchnorm", "easiest")


def test_law_2_the_hardness_of_another_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    score = hardviews.objective.objective.Objective.score

    def shifted(self: Any, *arguments: Any, **settings: Any) -> Any:
        return score(self, *arguments, **settings).roll(1, 0)

    monkeypatch.setattr(hardviews.objective.objective.Objective, "score", shifted)
    breaks(laws.selection_equals_brute_force, "toy_queue", "batchnorm")


def test_law_2_a_pair_of_other_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    name = plan.candidate_pairs

    def turned(*arguments: Any) -> Any:
        pairs, within = name(*arguments)
        return pairs, within.roll(1, 0)

    monkeypatch.setattr(hardviews.objective.objective, "candidate_pairs", turned)
    breaks(laws.selection_equals_brute_force, "simsiam", "batchnorm", "hardest", 3)


def test_law_2_an_average_without_the_last_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    averaged = hardviews.objective.objective.Objective._averaged

    def short(self: Any, term: Term) -> Any:
        assert term.assignments is not None
        return averaged(self, replace(term, assignments=term.assignments[:-1]))

    monkeypatch.setattr(hardviews.objective.objective.Objective, "_averaged", short)
    breaks(laws.averaging_equals_brute_force, "simclr", "vit", AllPairs(4))


def test_law_2_the_gradient_of_one_side_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates that are targets alone would teach the queue's method as much, SimCLR less."""
    clean = hardviews.objective.objective.Objective._clean

    def without_targets(self: Any, batch: Any, pairs: Any = ()) -> Any:
        encoded = clean(self, batch, pairs or None)
        return replace(encoded, target=encoded.detached().target) if len(pairs) > 2 else encoded

    monkeypatch.setattr(hardviews.objective.objective.Objective, "_clean", without_targets)
    breaks(laws.averaging_equals_brute_force, "simclr", "vit", AllPairs(4))


def test_law_3_a_zero_weight_that_costs_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_zero(self: Sum, batch: Any, objective: Any) -> list[Term]:
        return [replace(t, weight=max(p.weight, 0.01)) for p in self.parts for t in p.strategy(batch, objective)]

    monkeypatch.setattr(Sum, "__call__", with_zero)
    breaks(laws.nothing_added_is_the_clean_step, "simsiam", "batchnorm", "weight zero")


def test_law_3_a_part_that_begins_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Weighted, "at", lambda self, clock: self.weight)
    breaks(laws.nothing_added_is_the_clean_step, "simclr", "batchnorm", "parts that begin later")


def test_law_3_an_average_over_weights_that_do_not_count_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Sum.__call__

    def over_all(self: Sum, batch: Any, objective: Any) -> list[Term]:
        total = sum(part.weight for part in self.parts)
        return [replace(term, weight=term.weight / total) for term in call(self, batch, objective)]

    monkeypatch.setattr(Sum, "__call__", over_all)
    breaks(laws.nothing_added_is_the_clean_step, "simclr", "batchnorm", "parts that begin later")


def test_law_3_a_choice_among_as_many_candidates_as_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_ways", lambda pool, ordered: math.perm(pool.candidates, pool.slots))
    breaks(laws.nothing_added_is_the_clean_step, "toy_queue", "batchnorm", "as many candidates as slots")


def test_law_4_a_label_that_is_not_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name in ((Method, "simsiam"), (SimCLR, "simclr")):
        mixed = kind.mixed_loss
        monkeypatch.setattr(kind, "mixed_loss", lambda self, *arguments, mixed=mixed: mixed(self, *arguments) ** 2)
        breaks(laws.mixed_loss_is_linear, name, "batchnorm")


def test_law_5_a_centre_updated_by_a_hard_term(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = toys.ToyCentre.pair_loss

    def updating(self: Any, batch: Any, online: Any, target: Any, pair: Any) -> Any:
        if batch.hard:
            self.centre.data.add_(online.detach().mean(0), alpha=0.1)
        return loss(self, batch, online, target, pair)

    monkeypatch.setattr(toys.ToyCentre, "pair_loss", updating)
    breaks(laws.update_ignores_hard_terms, "toy_centre", "vit")


def test_law_5_main_statistics_moved_by_mixed_views(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def always_update(module: Any, branch: Any, update: bool) -> Any:
        with batchnorm.normalising(module, branch, True):
            yield

    monkeypatch.setattr(hardviews.objective.step, "normalising", always_update)
    breaks(laws.update_ignores_hard_terms, "toy_sinkhorn", "batchnorm")


def test_law_6_a_bound_in_normalised_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "bounded", lambda pixels, *_: pixels)
    breaks(laws.attack_keeps_its_bound, "simsiam", "batchnorm", Adversarial(8 / 255, steps=3, step_size=6 / 255))


def test_law_6_descending_instead_of_ascending(monkeypatch: pytest.MonkeyPatch) -> None:
    grad = torch.autograd.grad
    monkeypatch.setattr(adversarial.torch.autograd, "grad", lambda loss, inputs: grad(-loss, inputs))
    breaks(laws.attack_keeps_its_bound, "simclr", "batchnorm", Adversarial(1 / 255))


def test_law_6_lambda_of_the_box_before_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    mix = CutMix._mix

    def before_clipping(self: CutMix, pixels: Any, batch: Any, stream: int, grid: int) -> Any:
        mixed, how = mix(self, pixels, batch, stream, grid)
        return mixed, replace(how, weight=self.weights(batch, stream))

    monkeypatch.setattr(CutMix, "_mix", before_clipping)
    breaks(laws.weight_is_the_unpasted_area, "simsiam", CutMix(scope="sample"))


def test_law_7_partners_keyed_by_place_in_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CutMix, "partners", lambda self, batch, stream: torch.arange(len(batch)).flip(0))
    breaks(laws.permuting_samples_permutes_losses, "simclr", "batchnorm", CutMix())


def test_law_7_chance_keyed_by_place_in_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from hardviews.strategies import random_views

    uniform = random_views.uniform

    def by_place(seed: int, purpose: Any, epoch: int, position: Any, stream: int, n: int) -> Any:
        return uniform(seed, purpose, epoch, torch.arange(len(position)), stream, n)

    monkeypatch.setattr(random_views, "uniform", by_place)
    breaks(laws.permuting_samples_permutes_losses, "simsiam", "batchnorm", RandomViews(4))


def test_law_7_boxes_of_another_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from hardviews.strategies import least_overlap

    overlaps = least_overlap.overlaps
    monkeypatch.setattr(least_overlap, "overlaps", lambda *arguments: overlaps(*arguments).roll(1, 1))
    breaks(laws.permuting_samples_permutes_losses, "simsiam", "batchnorm", LeastOverlap(4))


def test_law_9_a_weight_lost_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.laws.cases import build, make_batch

    call = Sum.__call__
    monkeypatch.setattr(Sum, "__call__", lambda s, b, o: [replace(t, weight=1.0) for t in call(s, b, o)])
    objective = build("simclr", Sum((0.5, CutMix())))
    with_fault = laws.total(objective, make_batch(objective))
    objective = build("simclr", CutMix())
    assert not torch.allclose(with_fault, 0.5 * laws.total(objective, make_batch(objective)))
