"""How many forward passes a step takes, counted on the backbone: nothing is done twice."""

from collections import Counter
from typing import Any

import pytest
import torch

from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Chain, Clean, Strategy, Sum
from hardviews.views.plan import Slot
from tests.laws import toys
from tests.laws.cases import METHODS, build, make_batch


def passes(method: str, strategy: Strategy, step: int = 0) -> dict[str, int]:
    """Count a step's forward passes through the network, with and without gradient, and its backward passes."""
    objective = build(method, strategy)
    counts: Counter[str] = Counter()

    def hook(name: str) -> Any:
        def count(module: torch.nn.Module, args: Any, out: torch.Tensor) -> None:
            assert len(out) == 8, "a pass holds one view of each sample"
            counts[f"{name} with gradient" if out.requires_grad else name] += 1
            if out.requires_grad:
                out.register_hook(lambda grad: counts.update(["backward"]))

        return count

    objective.method.backbone.register_forward_hook(hook("forward"))
    if hasattr(objective.method, "momentum"):
        objective.method.momentum[0].register_forward_hook(hook("momentum"))
    losses = objective(make_batch(objective, step=step), 8)
    losses.total.backward()
    return dict(counts)


HEXA = Sum((1.0, Clean()), (1.0, Adversarial()), (1.0, CutMix()))

# What the step of a method takes: forward passes without gradient, with gradient, of the momentum encoder.
CASES: list[tuple[str, Strategy, tuple[int, int, int]]] = [
    ("simsiam", Clean(), (0, 2, 0)),
    ("simsiam", HardViews(4), (4, 2, 0)),
    ("simsiam", HardViews(8), (8, 2, 0)),
    ("simsiam", HardViews(2), (0, 2, 0)),
    ("simsiam", HardViews(4, every=2), (4, 2, 0)),
    ("simclr", Clean(), (0, 2, 0)),
    ("simclr", HardViews(4), (4, 2, 0)),
    ("simclr", HardViews(4, limit=4), (4, 2, 0)),
    ("toy_queue", Clean(), (0, 1, 1)),
    # Ordered: every candidate may be the query or the key.
    ("toy_queue", HardViews(4), (4, 1, 4 + 1)),
    # FGSM: the clean views, the attack, the attacked views.
    ("simsiam", Adversarial(), (0, 2 + 2 + 2, 0)),
    ("simsiam", Adversarial(steps=3), (0, 2 + 3 * 2 + 2, 0)),
    ("toy_queue", Adversarial(), (0, 1 + 1 + 1, 1)),
    ("simsiam", CutMix(), (0, 2 + 2, 0)),
    ("toy_queue", CutMix(), (0, 1 + 1, 1)),
    # Terms and attacks share the clean encodings and the targets.
    ("simsiam", HEXA, (0, 2 + 2 * 2 + 2, 0)),
    ("toy_queue", HEXA, (0, 1 + 2 + 1, 1)),
    ("simsiam", Chain(HardViews(4), HEXA), (4, 2 + 2 * 2 + 2, 0)),
    ("toy_queue", Chain(HardViews(4), HEXA), (4, 1 + 2 + 1, 4 + 1)),
    ("simsiam", Sum((1.0, Clean()), (0.0, HEXA)), (0, 2, 0)),
]


@pytest.mark.parametrize(("method", "strategy", "expected"), CASES, ids=str)
def test_passes_of_a_step(method: str, strategy: Strategy, expected: tuple[int, int, int]) -> None:
    without, with_gradient, momentum = expected
    wanted = {"forward": without, "forward with gradient": with_gradient, "momentum": momentum}
    counts = passes(method, strategy)
    counts.pop("backward")
    assert counts == {name: count for name, count in wanted.items() if count}


@pytest.mark.parametrize(
    ("strategy", "backward"),
    [
        (Clean(), 2),
        (HardViews(4), 2),
        (Adversarial(), 2 + 2),
        (Adversarial(steps=3), 3 * 2 + 2),
        (CutMix(), 2),
        (Chain(HardViews(4), HEXA), 2 + 2 * 2 + 2),
    ],
    ids=str,
)
def test_backward_passes_of_a_step(strategy: Strategy, backward: int) -> None:
    assert passes("simsiam", strategy)["backward"] == backward


def test_steps_in_between_score_nothing() -> None:
    assert passes("simsiam", HardViews(4, every=2), step=1) == {"forward with gradient": 2, "backward": 2}
    assert passes("simsiam", Adversarial(every=2), step=1) == {"forward with gradient": 2, "backward": 2}


class RowwiseQueue(toys.ToyQueue):
    """A queue whose key encoder looks at one sample at a time, so that scored keys may be kept."""

    rowwise_targets = True

    def __init__(self, backbone: torch.nn.Module, features: int) -> None:
        super().__init__(backbone, features)
        for norm in [m for m in self.momentum.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
            norm.eval()
        self.shown = 0

    def train(self, mode: bool = True) -> "RowwiseQueue":
        super().train(mode)
        self.momentum.eval()
        return self

    def show(self, view: Any) -> torch.Tensor:
        self.shown += 1
        shown: torch.Tensor = super().show(view)
        return shown


@pytest.fixture
def rowwise(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(METHODS, "rowwise", RowwiseQueue)
    return "rowwise"


def test_targets_that_hold_row_by_row_are_made_once(rowwise: str) -> None:
    strategy = Chain(HardViews(4), Sum((1.0, Clean()), (1.0, Adversarial(4 / 255))))
    objective = build(rowwise, strategy)
    batch = make_batch(objective)
    losses = objective(batch, 8)
    method = objective.method
    assert isinstance(method, RowwiseQueue)
    assert method.shown == 4
    # And they are the targets of the selected views, which a second pass would make.
    key = Slot("view", 1)
    torch.testing.assert_close(losses.encoded.target[key], toys.ToyQueue.show(method, losses.batch.views[key]))
    losses.total.backward()
    method.update(losses.encoded, batch.clock, losses.index)
    assert torch.equal(method.queue[:8], losses.encoded.target[key])


def test_targets_scored_at_another_size_are_made_anew(rowwise: str) -> None:
    objective = build(rowwise, HardViews(4, size=8))
    objective(make_batch(objective), 8)
    assert isinstance(objective.method, RowwiseQueue)
    assert objective.method.shown == 4 + 1


def test_scoring_at_a_size_shrinks_and_never_enlarges() -> None:
    objective = build("toy_centre", HardViews(4, size=12))
    seen: list[tuple[int, bool]] = []
    objective.method.backbone.register_forward_pre_hook(
        lambda module, args: seen.append((args[0].shape[-1], torch.is_grad_enabled()))
    )
    losses = objective(make_batch(objective), 8)
    assert losses.total.requires_grad
    # Four global candidates, each online and target, and two locals of 8 pixels.
    assert Counter(seen[:10]) == {(12, False): 8, (8, False): 2}
    assert {size for size, _ in seen[10:]} == {toys.SIZE, toys.LOCAL}
