"""Cost of a step of DINO and of iBOT: no view twice through a network, no output and no pair made twice."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from hardviews.batch import View
from hardviews.methods import self_distillation
from hardviews.methods.dino import DINO
from hardviews.methods.ibot import IBOT, Seen
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.plan import Slot
from tests.laws.cases import build, make_batch


def count(method: str, strategy: Strategy, monkeypatch: pytest.MonkeyPatch, network: str = "vit") -> Counter[str]:
    """Count a step's passes through networks and heads, and the parts of its losses."""
    objective = build(method, strategy, network)
    dino = objective.method
    assert isinstance(dino, DINO)
    counts: Counter[str] = Counter()

    def hook(name: str) -> Any:
        def passed(module: nn.Module, args: Any, out: torch.Tensor) -> None:
            views, rest = divmod(len(out), 8)
            assert rest == 0, "a pass holds a view of each sample, or several"
            counts[f"{name} with gradient" if out.requires_grad else name] += views
            counts[f"calls of the {name}"] += 1
            if out.requires_grad:
                out.register_hook(lambda grad: counts.update({f"{name} backward": views}))

        return passed

    def counted(owner: Any, name: str) -> None:
        made = getattr(owner, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return made(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    dino.backbone.register_forward_hook(hook("student"))
    dino.exported.register_forward_hook(hook("teacher"))
    counted(self_distillation.Comparison, "normaliser")
    counted(self_distillation.Comparison, "expected")
    counted(torch, "bmm")
    losses = objective(make_batch(objective), 8)
    losses.total.backward()
    return counts


HEXA = Sum((1.0, Clean()), (1.0, Adversarial()), (1.0, CutMix()))

# Two full-size views and two small ones. The numbers are passes of the student without and with gradient, and passes of
# the teacher. Then follow the views of student and teacher whose outputs a loss needs, and the matrix products.
DINO_CASES: list[tuple[Strategy, tuple[int, ...]]] = [
    (Clean(), (0, 4, 2, 4, 2, 1)),
    # Scoring: all four candidates through both networks, small views through the student. Training: the student alone.
    (HardViews(4), (4 + 2, 4, 4, 6 + 4, 4 + 2, 2)),
    # With the noise of training, small views are encoded once for both; without rivals, full-size ones too.
    (HardViews(4, noise="training"), (4, 4, 4, 6 + 4, 4 + 2, 2)),
    (HardViews(2, local_candidates=5, noise="training"), (5, 4, 2, 7 + 4, 2 + 2, 2)),
    (HardViews(8), (8 + 2, 4, 8, 10 + 4, 8 + 2, 2)),
    (HardViews(4, local_candidates=5), (4 + 5, 4, 4, 9 + 4, 4 + 2, 2)),
    # Without a choice nothing is scored.
    (HardViews(2), (0, 4, 2, 4, 2, 1)),
    (HardViews(4, every=2), (4 + 2, 4, 4, 6 + 4, 4 + 2, 2)),
    # The attack and the attacked views: the teacher looks at clean views, once.
    (Adversarial(), (0, 4 + 2 + 2, 2, 4 + 4, 2 + 2, 2)),
    (Chain(HardViews(4), Adversarial(steps=2)), (6, 4 + 2 * 2 + 2, 4, 6 + 4 + 4 + 4, 4 + 2 + 2 + 2, 4)),
]


@pytest.mark.parametrize(("strategy", "expected"), DINO_CASES, ids=str)
def test_dino(strategy: Strategy, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count("dino", strategy, monkeypatch)
    names = ("student", "student with gradient", "teacher", "normaliser", "expected", "bmm")
    assert tuple(counts[name] for name in names) == expected
    assert not counts["teacher with gradient"]


@pytest.mark.parametrize("method", ["dino", "ibot"])
@pytest.mark.parametrize(
    ("strategy", "student", "teacher"),
    # Full-size views and small ones are a call each; so are scored views, and views in an attack and after it.
    [(Clean(), 2, 1), (HardViews(4), 2 + 2, 1), (HardViews(4, noise="training"), 1 + 2, 1), (HEXA, 2 + 2 + 1, 1)],
    ids=str,
)
def test_views_of_one_size_are_one_batch(
    method: str, strategy: Strategy, student: int, teacher: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU waits for the launches of many small passes."""
    counts = count(method, strategy, monkeypatch)
    assert (counts["calls of the student"], counts["calls of the teacher"]) == (student, teacher)


@pytest.mark.parametrize("limit", [1, 2, 5, 12])
def test_a_limit_encodes_what_it_looks_at(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the teacher makes nothing twice, whichever candidates the limit leaves out."""
    counts = count("dino", HardViews(8, local_candidates=4, limit=limit), monkeypatch)
    assert counts["student"] <= min(8 + 4, 4 * limit)
    assert counts["student"] + 4 == counts["normaliser"]
    assert counts["teacher"] + 2 == counts["expected"]
    assert counts["bmm"] == 2


def test_a_teacher_with_batchnorm_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs for the selected views depend on which views those are."""
    counts = count("dino", HardViews(4), monkeypatch, "batchnorm")
    assert (counts["student"], counts["student with gradient"], counts["teacher"]) == (4, 4, 4 + 2)


@pytest.mark.parametrize("method", ["dino", "ibot"])
@pytest.mark.parametrize(
    ("strategy", "student", "backward"),
    # Two full-size views, and of DINO two small ones, of iBOT one.
    [(Clean(), 2, 2), (HardViews(4), 2, 2), (CutMix(), 2 + 2, 2), (HEXA, 2 + 2 * 2 + 2, 2 + 2 * 2 + 2)],
    ids=str,
)
def test_backward_passes(
    method: str, strategy: Strategy, student: int, backward: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of mixed views alone, clean full-size ones are encoded for the state but teach nothing."""
    small = {"dino": 2, "ibot": 1}[method]
    counts = count(method, strategy, monkeypatch)
    assert (counts["student with gradient"], counts["student backward"]) == (student + small, backward + small)
    assert counts["teacher"] == (4 if isinstance(strategy, HardViews) else 2)


# Two full-size views and a small one, and the patches of the two.
IBOT_CASES: list[tuple[Strategy, tuple[int, ...]]] = [
    (Clean(), (0, 3, 2, 3 + 2, 2 + 2, 1)),
    (HardViews(4), (4 + 1, 3, 4, 5 + 4 + 3 + 2, 4 + 4 + 2 + 2, 2)),
    (HardViews(4, noise="training"), (4, 3, 4, 5 + 4 + 3 + 2, 4 + 4 + 2 + 2, 2)),
    (HardViews(8), (8 + 1, 3, 8, 9 + 8 + 3 + 2, 8 + 8 + 2 + 2, 2)),
]


@pytest.mark.parametrize(("strategy", "expected"), IBOT_CASES, ids=str)
def test_ibot(strategy: Strategy, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count("ibot", strategy, monkeypatch)
    names = ("student", "student with gradient", "teacher", "normaliser", "expected", "bmm")
    assert tuple(counts[name] for name in names) == expected


@pytest.mark.parametrize("strategy", [Clean(), HardViews(4), HEXA], ids=str)
def test_the_students_head_sees_masked_patches_alone(strategy: Strategy) -> None:
    """And the class token of every view; the teacher's head sees all patches, for the centre is made of them."""
    objective = build("ibot", strategy)
    method = objective.method
    assert isinstance(method, IBOT)
    rows: Counter[str] = Counter()
    masked: list[int] = []
    views: Counter[str] = Counter()
    seen = method._seen

    def counting(shown: Mapping[Slot, View]) -> dict[Slot, Seen]:
        views["student"] += len(shown)
        masked.extend(0 if view.mask is None else int(view.mask.sum()) for view in shown.values())
        return seen(shown)

    method._seen = counting  # type: ignore[method-assign]
    method.exported.register_forward_hook(lambda _, given, __: views.update({"teacher": len(given[0]) // 8}))
    for name, head in (("student", method.head), ("teacher", method._teachers_head())):
        head.mlp.register_forward_hook(lambda module, args, out, name=name: rows.update({name: len(out)}))
    objective(make_batch(objective), 8)
    assert sum(masked) > 0
    assert rows["student"] == 8 * views["student"] + sum(masked)
    assert rows["teacher"] == 8 * views["teacher"] * (1 + 4 * 4)


def test_no_outputs_are_stored_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a loss over many outputs does not grow with views times outputs."""
    objective = build("dino", Clean(), "vit")
    dino = objective.method
    assert isinstance(dino, DINO)
    batch = make_batch(objective, samples=12)
    _, encoded = objective.pairwise(batch)
    outputs = dino.config.outputs
    kept: list[torch.Size] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        dino.pair_losses(batch, encoded.online, encoded.target, objective.pairs)
    assert kept
    assert not [shape for shape in kept if outputs in shape and len(batch) in shape]
