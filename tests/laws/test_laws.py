"""Every law, on every method and strategy, on a network with BatchNorm and on a ViT."""

from typing import Literal

import pytest
import torch

from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.more_views import MoreViews
from hardviews.strategies.strategy import Clean, Strategy
from tests.laws import laws
from tests.laws.cases import METHODS, NETWORKS, STRATEGIES, build, make_batch

every_method = pytest.mark.parametrize("method", METHODS)
every_network = pytest.mark.parametrize("network", NETWORKS)


@pytest.mark.parametrize("selection", laws.SELECTIONS)
@every_network
@every_method
def test_scoring_changes_nothing(method: str, network: str, selection: str) -> None:
    laws.scoring_changes_nothing(method, network, laws.SELECTIONS[selection])


@pytest.mark.parametrize("limit", [None, 3])
@every_network
@every_method
def test_selection_equals_brute_force(method: str, network: str, limit: int | None) -> None:
    laws.selection_equals_brute_force(method, network, limit=limit)


@pytest.mark.parametrize("strategy", [AllPairs(4), AllPairs(4, limit=3), MoreViews(2)], ids=["all", "some", "sets"])
@every_network
@every_method
def test_averaging_equals_brute_force(method: str, network: str, strategy: Strategy) -> None:
    laws.averaging_equals_brute_force(method, network, strategy)


@pytest.mark.parametrize("nothing", laws.NOTHING)
@every_network
@every_method
def test_nothing_added_is_the_clean_step(method: str, network: str, nothing: str) -> None:
    laws.nothing_added_is_the_clean_step(method, network, nothing)


@every_network
@every_method
def test_an_unchanged_hard_view_costs_the_same(method: str, network: str) -> None:
    laws.an_unchanged_hard_view_costs_the_same(method, network)


@every_network
@every_method
def test_mixed_loss_is_linear(method: str, network: str) -> None:
    laws.mixed_loss_is_linear(method, network)


@every_network
@every_method
def test_update_ignores_hard_terms(method: str, network: str) -> None:
    laws.update_ignores_hard_terms(method, network)


@pytest.mark.parametrize("attack", [Adversarial(1 / 255), Adversarial(8 / 255, steps=3)], ids=["fgsm", "pgd"])
@every_network
@every_method
def test_attack_keeps_its_bound(method: str, network: str, attack: Adversarial) -> None:
    laws.attack_keeps_its_bound(method, network, attack)


@pytest.mark.parametrize("scope", ["sample", "group"])
@every_method
def test_weight_is_the_unpasted_area(method: str, scope: Literal["sample", "group"]) -> None:
    laws.weight_is_the_unpasted_area(method, CutMix(scope=scope))


@pytest.mark.parametrize("strategy", STRATEGIES)
@every_network
@every_method
def test_permuting_samples_permutes_losses(method: str, network: str, strategy: str) -> None:
    laws.permuting_samples_permutes_losses(method, network, STRATEGIES[strategy])


A, B, C = HardViews(4), CutMix(), Adversarial(4 / 255)

SAME = {
    "identity": (Chain(B), B),
    "clean is neutral": (Chain(Clean(), B, Clean()), B),
    "empty chain": (Chain(), Clean()),
    "associativity": (Chain(Chain(A, B), C), Chain(A, Chain(B, C))),
    "sum of one": (Sum((1.0, B)), B),
    "nested weights": (Sum((2.0, Sum((0.5, B), (0.25, Clean())))), Sum((1.0, B), (0.5, Clean()))),
    "weights pass a chain": (Chain(Sum((0.5, B)), C), Sum((0.5, Chain(B, C)))),
    "sum after a chain": (Chain(B, Sum((1.0, Clean()), (2.0, C))), Sum((1.0, B), (2.0, Chain(B, C)))),
    "average": (Sum((1.0, Clean()), (3.0, B), average=True), Sum((0.25, Clean()), (0.75, B))),
}


@pytest.mark.parametrize("law", SAME)
@every_method
def test_chain_and_sum_are_an_algebra(method: str, law: str) -> None:
    """Law 9."""
    totals = []
    for strategy in SAME[law]:
        objective = build(method, strategy)
        totals.append(laws.total(objective, make_batch(objective)))
    torch.testing.assert_close(totals[0], totals[1], rtol=1e-6, atol=1e-7)
