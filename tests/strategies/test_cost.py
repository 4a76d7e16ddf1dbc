"""How many forward passes a step takes, counted on the backbone: nothing is done twice."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hardviews.methods.method import Method
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.models.backbones import Backbone
from hardviews.models.momentum import MomentumEncoder
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.compose import Chain, Sum, Weighted
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.least_overlap import LeastOverlap
from hardviews.strategies.more_views import MoreViews, matching
from hardviews.strategies.passes import Passes
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.random_views import RandomViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import dino_global1, dino_global2, dino_local, mocov2
from hardviews.views.plan import Pair, Plan, Pool, Slot
from tests.laws import toys
from tests.laws.cases import METHODS, build, make_batch


def cost_of(method: Method, strategy: Strategy) -> Passes:
    return strategy.passes(method)


def passes(method: str, strategy: Strategy, step: int = 0) -> dict[str, int]:
    """Count a step's forward passes through the network, with and without gradient, and its backward passes."""
    objective = build(method, strategy)
    counts: Counter[str] = Counter()

    def hook(name: str) -> Any:
        def count(module: torch.nn.Module, args: Any, out: torch.Tensor) -> None:
            views, rest = divmod(len(out), 8)
            assert rest == 0, "a pass holds a view of each sample, or several"
            counts[f"{name} with gradient" if out.requires_grad else name] += views
            if out.requires_grad:
                out.register_hook(lambda grad: counts.update(["backward"]))

        return count

    objective.method.backbone.register_forward_hook(hook("forward"))
    momentum = getattr(objective.method, "momentum", None)
    if momentum is not None:
        # A copy by name, or the toy's list.
        network = momentum.backbone if isinstance(momentum, MomentumEncoder) else momentum[0]
        network.register_forward_hook(hook("momentum"))
    losses = objective(make_batch(objective, step=step), 8)
    losses.total.backward()
    return dict(counts)


HEXA = Sum((1.0, Clean()), (1.0, Adversarial()), (1.0, CutMix()))

# Cost of a method's step: forward passes without gradient, with gradient, of the momentum encoder.
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
    # A classifier on SimCLR's first view takes no pass of its own.
    ("joint", Clean(), (0, 2, 0)),
    ("joint", HardViews(4), (4, 2, 0)),
    ("joint", Chain(HardViews(4, size=8, kinds=("0",)), HEXA), (4, 2 + 2 * 2 + 2, 0)),
    ("joint", Sum((1.0, Clean()), (1.0, AllPairs(4))), (0, 4, 0)),
    # A view that one part has encoded is not encoded again by a part that looks at more views.
    ("simsiam", Sum((1.0, Clean()), (1.0, AllPairs(4))), (0, 4, 0)),
    ("simsiam", Sum((1.0, AllPairs(4)), (1.0, Clean())), (0, 4, 0)),
    ("simsiam", Sum((1.0, HEXA), (1.0, AllPairs(4))), (0, 4 + 2 * 2 + 2, 0)),
    ("toy_queue", Sum((1.0, Clean()), (1.0, AllPairs(4))), (0, 4, 4)),
    # The published BatchNorm: the same views, in one pass.
    ("simsiam", HardViews(4, normalise="together", move_statistics=True), (4, 2, 0)),
    ("simclr", HardViews(4, normalise="together"), (4, 2, 0)),
    ("simsiam", HardViews(4, size=8), (4, 2, 0)),
    # Chance and boxes choose without a pass.
    ("simsiam", RandomViews(4), (0, 2, 0)),
    ("toy_queue", RandomViews(4), (0, 1, 1)),
    ("simsiam", LeastOverlap(4), (0, 2, 0)),
    ("toy_queue", LeastOverlap(4), (0, 1, 1)),
    ("simsiam", PredictedViews(4), (0, 2, 0)),
    ("toy_queue", PredictedViews(4), (0, 1, 1)),
    # Every candidate once, with gradient; of an ordered method as query and as key.
    ("simsiam", AllPairs(4), (0, 4, 0)),
    ("simclr", AllPairs(4, limit=4), (0, 4, 0)),
    ("toy_queue", AllPairs(4), (0, 4, 4)),
    ("simsiam", MoreViews(2), (0, 4, 0)),
    ("toy_queue", MoreViews(3), (0, 3, 3)),
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
        (RandomViews(4), 2),
        (LeastOverlap(4), 2),
        (AllPairs(4), 4),
        (MoreViews(3), 6),
        (Chain(HardViews(4), HEXA), 2 + 2 * 2 + 2),
    ],
    ids=str,
)
def test_backward_passes_of_a_step(strategy: Strategy, backward: int) -> None:
    assert passes("simsiam", strategy)["backward"] == backward


def test_steps_in_between_score_nothing() -> None:
    assert passes("simsiam", HardViews(4, every=2), step=1) == {"forward with gradient": 2, "backward": 2}
    assert passes("simsiam", Adversarial(every=2), step=1) == {"forward with gradient": 2, "backward": 2}


COSTS: list[Strategy] = [
    Clean(),
    HardViews(2),
    HardViews(4),
    HardViews(6, every=3),
    HardViews(4, size=8),
    RandomViews(4),
    LeastOverlap(4),
    PredictedViews(4),
    AllPairs(4, every=2),
    MoreViews(),
    MoreViews(2.5),
]


class Momentum(toys.ToyQueue):
    """A queue whose keys are made by a momentum encoder as the methods have it."""

    def __init__(self, backbone: torch.nn.Module, features: int) -> None:
        super().__init__(backbone, features)
        self.momentum = MomentumEncoder({"backbone": self.backbone, "head": self.head})

    @property
    def teacher(self) -> Callable[[torch.Tensor], torch.Tensor]:
        backbone, head = (self.momentum.get_submodule(name) for name in ("backbone", "head"))
        return lambda pixels: torch.nn.functional.normalize(head(backbone(pixels)), dim=1)


@pytest.mark.parametrize("strategy", COSTS, ids=str)
@pytest.mark.parametrize("method", ["simsiam", "simclr", "joint", "momentum"])
def test_the_computed_cost_is_the_counted_one(method: str, strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over 6 steps, with the square of the resolution, and a backward pass counted as two forward passes."""
    monkeypatch.setitem(METHODS, "momentum", Momentum)
    told = cost_of(build(method, strategy).method, strategy)
    counts: Counter[str] = Counter()
    for step in range(6):
        counts.update(passes(method, strategy, step))
    scored = counts["forward"] / (4 if getattr(strategy, "size", None) else 1)
    shown = counts["momentum"]
    if getattr(strategy, "size", None):
        in_training = 6 if method == "momentum" else 0
        shown = (shown - in_training) / 4 + in_training
    assert told.without_gradient * 6 == pytest.approx(scored + shown)
    assert told.trained * 6 == pytest.approx(counts["forward with gradient"])
    assert told.trained * 6 == pytest.approx(counts["backward"])
    assert told.units * 6 == pytest.approx(scored + shown + counts["forward with gradient"] + 2 * counts["backward"])


@pytest.mark.parametrize(
    ("method", "sets"),
    [
        ("simsiam", (4 + 6) / 6),  # the default
        ("simclr", (4 + 6) / 6),
        # Candidates are queries and keys: 8 passes beside a query with gradient and a key.
        ("momentum", (4 + 4 + 4) / 4),
    ],
)
def test_more_views_at_equal_compute(method: str, sets: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "momentum", Momentum)
    control = matching(build(method, Clean()).method, HardViews(4))
    assert control.sets == pytest.approx(sets)
    counted = {}
    for strategy in (HardViews(4), control):
        steps = [passes(method, strategy, step) for step in range(3)]
        # Every backward pass is counted once in place of its forward pass, and once more.
        counted[strategy] = sum(sum(c.values()) + c["backward"] for c in steps)
    assert counted[control] == counted[HardViews(4)]
    assert matching(build("simsiam", Clean()).method, HardViews(4)) == MoreViews()


@pytest.mark.parametrize("strategy", [RandomViews(4, every=42), LeastOverlap(4, every=51), HardViews(2)], ids=str)
def test_nothing_more_is_matched_by_a_single_set_of_views(strategy: Strategy) -> None:
    assert matching(build("swav", Clean()).method, strategy) == MoreViews(1.0)


def test_costs_of_multi_crop() -> None:
    """A local view of half the side costs a quarter; targets that hold row by row are not made again."""
    method = build("toy_centre", Clean()).method
    assert cost_of(method, Clean()).units == 3 * (2 + 2 / 4)
    assert cost_of(method, HardViews(4)).without_gradient == 4
    for published in ({"normalise": "together"}, {"move_statistics": True}):
        assert cost_of(method, HardViews(4, **published)).without_gradient == 4 + 2 / 4  # type: ignore[arg-type]
    assert cost_of(method, HardViews(4, local_candidates=6, limit=9)).without_gradient == 4 + 6 / 4

    class Teacher(toys.ToyCentre):
        rowwise_targets = True

        def __init__(self) -> None:
            super().__init__(torch.nn.Identity(), 4)
            self.momentum = MomentumEncoder({"head": self.head})

    teacher = Teacher()
    clean = cost_of(teacher, Clean())
    assert clean.units == 2 + 3 * (2 + 2 / 4)
    # Four globals through both networks, less the two targets that training takes over.
    assert cost_of(teacher, HardViews(4)).units == clean.units + 4 + 4 - 2
    assert cost_of(teacher, HardViews(4, size=8)).units == clean.units + 4 / 4 + 4 / 4
    # Without rivals, full-size views and their targets are those of training.
    assert cost_of(teacher, HardViews(2, local_candidates=6)).units == clean.units + 6 / 4
    teacher.rowwise_targets = False
    assert cost_of(teacher, HardViews(4)).units == clean.units + 4 + 4
    # Noise that training does not share takes passes of its own.
    teacher.drop = torch.nn.Dropout(0.1)
    assert cost_of(teacher, HardViews(4)).units == clean.units + 4 + 4 + 2 / 4
    assert cost_of(teacher, HardViews(4, noise="training")).units == clean.units + 4 + 4
    teacher.drop.p = 0.0
    assert cost_of(teacher, HardViews(4)).units == clean.units + 4 + 4


class MultiCrop(toys.Toy):
    """DINO's views at their published sizes, and a teacher without BatchNorm."""

    rowwise_targets = True

    def __init__(self, backbone: torch.nn.Module, features: int) -> None:
        super().__init__(backbone, features)
        self.momentum = MomentumEncoder({"head": self.head})

    def plan(self) -> Plan:
        pools = (Pool("even", 1, dino_global1()), Pool("odd", 1, dino_global2()))
        return Plan((*pools, Pool("local", 8, dino_local(), target=False)))

    def pairs(self) -> tuple[Pair, ...]:
        targets, slots = (Slot("even", 0), Slot("odd", 0)), self.plan().slots
        return tuple(Pair(online, target, 1 / 18) for target in targets for online in slots if online != target)


@pytest.fixture(scope="module")
def published() -> list[Method]:
    """SimSiam, MoCo and DINO on their networks at their published sizes, which take no memory."""
    with torch.device("meta"):
        resnet, vit = (Backbone(name) for name in ("resnet50", "vit_small_patch16_224"))
        momentum = Momentum(resnet.build(), resnet.num_features)
        momentum.view = mocov2()
        simsiam = SimSiamConfig(width=8, bottleneck=4).build(resnet.build(), resnet.num_features)
        return [simsiam, momentum, MultiCrop(vit.build(), vit.num_features)]


def test_the_page_has_the_costs(published: list[Method]) -> None:
    """The table of docs/selection.md."""
    page = (Path(__file__).parents[2] / "docs" / "selection.md").read_text()
    rows = re.findall(r"^\| `(\w+\(.*?\))` \| ([\d.-]+) \| ([\d.-]+) \| ([\d.-]+) \|$", page, re.MULTILINE)
    assert len(rows) == 15
    known = {c.__name__: c for c in (Clean, HardViews, RandomViews, LeastOverlap, PredictedViews, AllPairs, MoreViews)}
    for code, *told in rows:
        strategy = eval(code, known)
        found = ["-" if strategy.refuses(m) else f"{round(cost_of(m, strategy).units, 1):g}" for m in published]
        assert found == told, code
    ratios = [matching(method, HardViews(4)).sets for method in published]
    assert ratios == pytest.approx([10 / 6, 12 / 4, 18.22 / 12.22], abs=1e-3)


def test_a_network_of_stride_32_rounds_up(published: list[Method]) -> None:
    """And a transformer counts its tokens, the class token with them."""
    simsiam, _, dino = published
    scored = {size: cost_of(simsiam, HardViews(4, size=size)).without_gradient / 4 for size in (56, 64, 112, 224)}
    assert scored[224] == 1
    assert scored[56] == pytest.approx(0.0727, abs=1e-4)  # by area 0.0625
    assert scored[64] == pytest.approx((64 / 224) ** 2, abs=1e-4)
    assert scored[112] == pytest.approx(0.2632, abs=1e-4)  # by area 0.25
    shown = cost_of(dino, HardViews(4, size=64, score="targets")).without_gradient - 2
    assert shown == pytest.approx(4 * 0.0801, abs=1e-3)  # 17 of 197 tokens are 0.0863, without attention 0.0799


def test_state_of_random_views_costs_a_pass_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """If boxes choose, or a smaller size is scored, the state's encodings of the first views are made apart."""

    class Bank(toys.ToyQueue):
        unselected_state = True

    monkeypatch.setitem(METHODS, "bank", Bank)
    for strategy, without in ((LeastOverlap(4), 1), (HardViews(4), 4), (HardViews(4, size=8), 4 + 1)):
        assert passes("bank", strategy)["forward"] == without
    assert cost_of(build("bank", Clean()).method, LeastOverlap(4)).without_gradient == 1


def test_strategies_that_select_nothing_have_no_such_cost() -> None:
    with pytest.raises(TypeError, match="CutMix"):
        cost_of(build("simsiam", Clean()).method, CutMix())


@pytest.mark.parametrize(("attack", "more"), [(Adversarial(), 2), (Adversarial(steps=3), 4)], ids=["fgsm", "pgd"])
def test_what_measuring_an_attack_costs(attack: Adversarial, more: int) -> None:
    """A pass over both attacked views, in every twentieth step; and one over the clean ones if none was made."""
    for step in (0, 18, 20):
        assert "forward" not in passes("simsiam", attack, step)
    measured = passes("simsiam", attack, 19)
    assert measured.pop("forward") == more
    assert measured == passes("simsiam", attack, 18)


def test_parts_that_do_not_count_yet_cost_nothing() -> None:
    late = Sum(
        (1.0, Clean()), Weighted(1.0, Adversarial(), begin=2), Weighted(1.0, Chain(HardViews(4), CutMix()), begin=2)
    )
    assert passes("simsiam", late) == {"forward with gradient": 2, "backward": 2}


def test_flipped_labels_and_margins_cost_no_pass() -> None:
    assert passes("simclr", HEXA) == {"forward with gradient": 2 + 4 + 2, "backward": 2 + 2 + 2 + 2}


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

    @property
    def teacher(self) -> Callable[[torch.Tensor], torch.Tensor]:
        teacher: Callable[[torch.Tensor], torch.Tensor] = super().teacher

        def counted(pixels: torch.Tensor) -> torch.Tensor:
            self.shown += 1
            return teacher(pixels)

        return counted


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
    torch.testing.assert_close(losses.encoded.target[key], method.teacher(losses.batch.views[key].pixels()))
    losses.total.backward()
    method.update(losses.encoded, batch.clock, losses.batch.samples)
    assert torch.equal(method.queue[:8], losses.encoded.target[key])


def test_targets_scored_at_another_size_are_made_again(rowwise: str) -> None:
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
    # Two locals of 8 pixels, encoded for training; four global candidates, each online and target.
    assert Counter(seen[:10]) == {(12, False): 8, (8, True): 2}
    assert {size for size, _ in seen[10:]} == {toys.SIZE}
