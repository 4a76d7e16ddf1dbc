"""Cost of a step of DeepCluster: passes of the network, and products with the centroids."""

import pytest
import torch

from hardviews.methods.deepcluster import DeepCluster
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from tests.laws.cases import build, make_batch
from tests.strategies.test_cost import HEXA, passes

# Two full-size and two small views; forward passes without and with gradient.
CASES: list[tuple[Strategy, int, int]] = [
    (Clean(), 0, 4),
    # Small views have no rival: their pass with gradient serves the score.
    (HardViews(4), 4, 4),
    (HardViews(6, local_candidates=4), 6 + 4, 4),
    # Scored small, the full-size views of the bank are encoded again; its small ones are trained on anyway.
    (HardViews(4, size=12), 4 + 2, 4),
    (CutMix(), 0, 4 + 2),
    (HEXA, 0, 4 + 2 + 2 + 2),
]


@pytest.mark.parametrize(("strategy", "without", "with_gradient"), CASES, ids=str)
def test_passes_of_a_step(strategy: Strategy, without: int, with_gradient: int) -> None:
    counts = passes("deepcluster", strategy)
    assert counts.get("forward", 0) == without
    assert counts["forward with gradient"] == with_gradient


def test_scores_take_one_product_a_view_whatever_pairs_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And all heads share it."""
    products: list[int] = []
    original = DeepCluster._logits

    def counted(self: DeepCluster, embeddings: torch.Tensor) -> torch.Tensor:
        products.append(len(embeddings))
        return original(self, embeddings)

    monkeypatch.setattr(DeepCluster, "_logits", counted)
    objective = build("deepcluster", HardViews(6, local_candidates=4))
    table = objective.plan.assignments(objective.pairs)
    assert len(table) == 15 * 6
    objective.score(make_batch(objective), table)
    assert products == [8] * (6 + 4)
