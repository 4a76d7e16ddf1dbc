"""Cost of a step of BYOL and of SwAV: each view once through a network, each assignment and each softmax once."""

from collections import Counter
from typing import Any

import pytest
import torch

from hardviews.methods import swav
from hardviews.methods.byol import BYOL
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from tests.laws.cases import build, make_batch

HEXA = Sum((1.0, Clean()), (1.0, Adversarial()), (1.0, CutMix()))


def count(method: str, strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    objective = build(method, strategy)
    counts: Counter[str] = Counter()

    def passing(name: str) -> Any:
        def hook(module: torch.nn.Module, args: Any, out: torch.Tensor) -> None:
            counts[f"{name} with gradient" if out.requires_grad else name] += 1

        return hook

    def counted(name: str) -> None:
        function = getattr(swav, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(swav, name, call)

    objective.method.backbone.register_forward_hook(passing("online"))
    if isinstance(objective.method, BYOL):
        objective.method.momentum.get_submodule("backbone").register_forward_hook(passing("target"))
    for name in ("sinkhorn", "log_softmax", "gather_rows", "order_of_rows"):
        counted(name)
    batch = make_batch(objective)
    losses = objective(batch, len(batch))
    losses.total.backward()
    objective.method.update(losses.encoded, batch.clock, losses.batch.samples)
    return counts


BYOL_CASES: list[tuple[Strategy, tuple[int, int, int]]] = [
    # Online without gradient, online with gradient, target network.
    (Clean(), (0, 2, 2)),
    (HardViews(4), (4, 2, 4 + 2)),
    (Adversarial(), (0, 2 + 2 + 2, 2)),
    (HEXA, (0, 2 + 2 * 2 + 2, 2)),
    (Chain(HardViews(4), HEXA), (4, 2 + 2 * 2 + 2, 4 + 2)),
]


@pytest.mark.parametrize(("strategy", "expected"), BYOL_CASES, ids=str)
def test_byol(strategy: Strategy, expected: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count("byol", strategy, monkeypatch)
    assert (counts["online"], counts["online with gradient"], counts["target"]) == expected
    assert not counts["target with gradient"]


SWAV_CASES: list[tuple[Strategy, tuple[int, int, int, int]]] = [
    # Two full-size views and two small ones: online without gradient, with gradient, assignments, softmaxes.
    (Clean(), (0, 4, 2, 4)),
    # Scoring: four candidates; every code and every softmax once for all six assignments. Small views have no rival:
    # they are encoded for training, and scored from that.
    (HardViews(4), (4, 4, 4 + 2, 6 + 4)),
    (HardViews(8), (8, 4, 8 + 2, 10 + 4)),
    (HardViews(4, local_candidates=3), (4 + 3, 4, 4 + 2, 7 + 4)),
    # Without a rival on the other side: full-size views and their codes.
    (HardViews(2, local_candidates=3), (3, 4, 2, 5 + 4)),
    # Small views, of which none was chosen, are those that the first part has encoded.
    (Sum((1.0, Clean()), (1.0, HardViews(4))), (4, 4 + 2, 6 + 2, 6 + 4 + 4)),
    (Sum((1.0, HardViews(4)), (1.0, Clean())), (4, 4 + 2, 6 + 2, 6 + 4 + 4)),
    # Hard views are assigned to nothing: they predict the codes of the clean ones.
    (Adversarial(), (0, 4 + 2 + 2, 2, 4 + 4)),
    (Chain(HardViews(4), Adversarial()), (4, 4 + 2 + 2, 6, 6 + 4 + 4)),
]


@pytest.mark.parametrize(("strategy", "expected"), SWAV_CASES, ids=str)
def test_swav(strategy: Strategy, expected: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count("swav", strategy, monkeypatch)
    found = (counts["online"], counts["online with gradient"], counts["sinkhorn"], counts["log_softmax"])
    assert found == expected


def test_swavs_hard_terms_share_the_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count("swav", HEXA, monkeypatch)
    assert (counts["online"], counts["online with gradient"], counts["sinkhorn"]) == (0, 4 + 2 * 2 + 2, 2)


def test_swav_gathers_once_for_all_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    # And once for the queue, whose rows' places in the data set are numbers gathered beside them.
    for strategy, gathered in ((Clean(), 2), (HardViews(4), 3)):
        counts = count("swav", strategy, monkeypatch)
        assert (counts["gather_rows"], counts["order_of_rows"]) == (gathered, 1)
