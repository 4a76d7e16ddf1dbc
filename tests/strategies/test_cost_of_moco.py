"""Cost of a step of MoCo: every view once through its encoder, and one product with the queue for each query."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from hardviews.methods.moco import MoCo
from hardviews.methods.shuffle import Shuffle
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from tests.laws.cases import build, make_batch

HEXA = Sum((1.0, Clean()), (1.0, Adversarial()), (1.0, CutMix()))


def count(strategy: Strategy, monkeypatch: pytest.MonkeyPatch, name: str = "moco", network: str = "batchnorm") -> Any:
    objective = build(name, strategy, network)
    method = objective.method
    assert isinstance(method, MoCo)
    counts: Counter[str] = Counter()

    def passing(kind: str) -> Any:
        def hook(module: torch.nn.Module, args: Any, out: Tensor) -> None:
            assert len(out) == 8, "a pass holds one view of each sample"
            counts[f"{kind} with gradient" if out.requires_grad else kind] += 1

        return hook

    def counted(owner: type, function: str) -> None:
        before = getattr(owner, function)

        def call(*args: Any) -> Any:
            counts[function] += 1
            return before(*args)

        monkeypatch.setattr(owner, function, call)

    method.backbone.register_forward_hook(passing("query"))
    method.momentum.get_submodule("backbone").register_forward_hook(passing("key"))
    counted(MoCo, "_queued")
    counted(Shuffle, "__init__")
    batch = make_batch(objective)
    losses = objective(batch, 8)
    losses.total.backward()
    method.update(losses.encoded, batch.clock, losses.batch.samples)
    assert not counts["key with gradient"]
    return counts


# Queries without gradient, with gradient, keys, products with the queue.
CASES: list[tuple[Strategy, tuple[int, int, int, int]]] = [
    (Clean(), (0, 1, 1, 1)),
    # Ordered: every candidate may be the query or the key. Twelve pairs, four products.
    (HardViews(4), (4, 1, 4 + 1, 4 + 1)),
    (HardViews(8), (8, 1, 8 + 1, 8 + 1)),
    (HardViews(2), (0, 1, 1, 1)),
    (Adversarial(), (0, 1 + 1 + 1, 1, 1 + 1)),
    (CutMix(), (0, 1 + 1, 1, 1)),
    # Keys are made once for all terms and attack steps.
    (HEXA, (0, 1 + 2 + 1, 1, 1 + 2 + 1)),
    (Chain(HardViews(4), HEXA), (4, 1 + 2 + 1, 4 + 1, 4 + 1 + 2 + 1)),
]


@pytest.mark.parametrize(("strategy", "expected"), CASES, ids=str)
def test_passes_and_products(
    strategy: Strategy, expected: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = count(strategy, monkeypatch)
    assert (counts["query"], counts["query with gradient"], counts["key"], counts["_queued"]) == expected
    # One permutation for the clean keys, and one for all candidates together.
    assert counts["__init__"] == (2 if counts["query"] else 1)


def test_keys_that_hold_row_by_row_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count(Chain(HardViews(4), HEXA), monkeypatch, network="vit")
    assert (counts["query"], counts["query with gradient"], counts["key"]) == (4, 1 + 2 + 1, 4)
    assert counts["__init__"] == 0


def test_both_directions_share_nothing_but_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count(HardViews(4), monkeypatch, "moco_symmetric")
    assert (counts["query"], counts["query with gradient"], counts["key"]) == (4, 2, 4 + 2)
    assert (counts["_queued"], counts["__init__"]) == (4 + 2, 0)
