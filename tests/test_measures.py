"""Effect of hard views on pseudo-labels: margins, flipped labels, and that measuring is right and changes nothing."""

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardviews.batch import entropy
from hardviews.methods.moco import MoCoConfig
from hardviews.objective.measures import margins
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.meter import Meter
from tests.laws import toys
from tests.laws.cases import METHODS, VIEW, build, make_batch, state, train_step
from tests.strategies.test_adversarial import photographs

CPU = torch.device("cpu")


class ScoredClusters(toys.ToyClusters):
    """Clusters that return their scores; a fifth of the images has none."""

    def scores(self, batch: Any, online: Any, target: Any, pair: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return online[pair.online], target[pair.target]


@pytest.fixture(autouse=True)
def clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "scored clusters", ScoredClusters)


def telling() -> list[str]:
    """Return the methods that compare labels."""
    found = []
    for name in METHODS:
        objective = build(name, Clean())
        batch = make_batch(objective)
        with torch.no_grad():
            _, encoded = objective.pairwise(batch)
        scored = [objective.method.scores(batch, encoded.online, encoded.target, pair) for pair in objective.pairs]
        if any(s is not None for s in scored):
            found.append(name)
    return found


@given(st.lists(st.lists(st.floats(-9, 9, width=16), min_size=3, max_size=3), min_size=1, max_size=5), st.data())
def test_margins(rows: list[list[float]], data: Any) -> None:
    own = data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    wanted = [row[k] - max(v for j, v in enumerate(row) if j != k) for row, k in zip(rows, own, strict=True)]
    assert margins(torch.tensor(rows), torch.tensor(own)).tolist() == pytest.approx(wanted)


HEXA = Sum((1.0, Clean()), (0.5, Adversarial(8 / 255)), (0.25, CutMix()))


@pytest.mark.parametrize("strategy", [HEXA, Chain(HardViews(4), HEXA)], ids=["alone", "after a selection"])
def test_values_by_hand(strategy: Strategy) -> None:
    """Flipped labels and margins, each from a forward pass of its own."""
    objective = build("scored clusters", strategy, "vit").eval()
    batch = make_batch(objective)
    losses = objective(batch, len(batch))
    method = objective.method
    labels = method.labels[batch.index]  # type: ignore[index]
    for term, _ in losses.terms[1:]:
        slots = [pair.online for pair in objective.pairs]
        with torch.no_grad():
            clean, hard = (
                torch.stack([method.embed(view(slot).pixels()) for slot in slots])  # type: ignore[operator]
                for view in (term.batch.views.__getitem__, term.batch.online)
            )
        known = (labels >= 0).repeat(2)
        flipped = (clean.argmax(2) != hard.argmax(2)).float().flatten()
        got = losses.measures[f"flipped/{term.name}"]
        assert torch.equal(got.isnan(), ~known)
        assert torch.equal(got[known], flipped[known])
        for name, scores in (("clean", clean), (term.name, hard)):
            wanted = margins(scores.flatten(0, 1), labels.repeat(2))
            torch.testing.assert_close(losses.measures[f"margin/{name}"][known], wanted[known])
    meter = Meter(CPU)
    meter.add_losses(losses, objective.pairs)
    report = meter.report()
    for name in ("flipped/adversarial", "margin/cutmix"):
        assert report[name] == pytest.approx(losses.measures[name].nanmean().item(), abs=1e-5)


@pytest.mark.parametrize("method", ["simsiam", "toy_queue"])
def test_methods_without_labels_are_not_asked_for_any(method: str) -> None:
    objective = build(method, HEXA)
    assert objective(make_batch(objective), 8).measures == {}


def test_clean_views_alone_cost_no_scores() -> None:
    objective = build("simclr", HardViews(4))
    objective.method.scores = None  # type: ignore[assignment]
    assert objective(make_batch(objective), 8).measures == {}


@pytest.mark.parametrize("method", ["moco", "moco_symmetric", "simclr", "deepcluster"])
@pytest.mark.parametrize("mixing", [CutMix(), MixUp(scope="sample"), Chain(CutMix(), Adversarial(4 / 255))])
def test_losses_of_mixed_views_above_their_floor(method: str, mixing: Strategy) -> None:
    """The least that a cross-entropy with a mixed label can be is the label's entropy, from logits set free."""
    objective = build(method, Sum((1.0, Clean()), (0.5, mixing)))
    batch = make_batch(objective)
    losses = objective(batch, len(batch))
    (term, losses_B) = losses.terms[1]
    above = losses.measures[f"loss/{term.name}_above_floor"]
    valid = objective.valid(term.batch)
    known = torch.ones(len(batch), dtype=torch.bool) if valid is None else valid
    assert torch.equal(~above.isnan(), known)
    wanted = []
    for i in range(len(batch)):
        floor = 0.0
        for pair in (pair for pair in objective.pairs if pair.online in term.batch.mixes):
            mix = term.batch.mixes[pair.online]
            j, weight = int(mix.partner[i]), float(mix.weight[i])
            apart = [j != i]
            if method == "deepcluster":
                labels = objective.method.labels[:, batch.index]  # type: ignore[index]
                apart = (labels[:, i] != labels[:, j]).tolist()
            parts = [p for p in (weight, 1 - weight) if p > 0]
            floor += pair.weight * sum(apart) / len(apart) * -sum(p * log(p) for p in parts)
        wanted.append(losses_B[i].item() - floor)
    assert above[known].tolist() == pytest.approx(torch.tensor(wanted)[known].tolist(), abs=1e-5)
    assert (above[known] > 0).all()


@pytest.mark.parametrize("method", ["simsiam", "dino"])
def test_no_floor_is_reported_where_no_label_is_mixed_by_weights_alone(method: str) -> None:
    objective = build(method, CutMix())
    assert not any("floor" in name for name in objective(make_batch(objective), 8).measures)


def test_keys_asked_for_one_by_one_have_no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    config = MoCoConfig(hidden=16, output=8, queue=12, mixed_labels="separate", view=VIEW)
    monkeypatch.setitem(METHODS, "separate", config.build)
    objective = build("separate", CutMix())
    assert not any("floor" in name for name in objective(make_batch(objective), 8).measures)


def shares(objective: Objective, strategy: Strategy, step: int) -> dict[str, float]:
    """Return the measures of a batch of photographs under another strategy than the one trained with."""
    objective.strategy = strategy
    meter = Meter(CPU)
    batch = photographs(objective, step, samples=96)
    meter.add_losses(objective(batch, len(batch)), objective.pairs)
    return meter.report()


# The two on whose networks a few steps of SGD leave all images with one output: they have a test of their own. Parts of
# a sum have names of their own, and are here by themselves.
@pytest.mark.parametrize(
    "method", [name for name in telling() if name not in ("dino", "ibot") and not name.startswith("joint")]
)
def test_more_labels_flip_the_larger_the_bound(method: str) -> None:
    """On photographs, after a few steps of training, over epsilon 0, 2, 4, 8 / 255; and margins shrink."""
    objective = build(method, Clean())
    for step in range(12):
        train_step(objective, photographs(objective, step, samples=32), lr=0.1)
    more_flip(objective)


@pytest.mark.parametrize(("method", "network"), [("dino", "batchnorm"), ("dino", "vit"), ("ibot", "vit")])
def test_more_labels_of_a_teacher_flip_the_larger_the_bound(
    method: str, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, with the optimizer that the methods are published with. BatchNorm in the head takes off what all images
    share, which a longer training would do.
    """
    config: Any = METHODS[method].__self__  # type: ignore[attr-defined]
    monkeypatch.setitem(METHODS, method, replace(config, batchnorm=True).build)
    objective = build(method, Clean(), network)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
    for step in range(12):
        batch = photographs(objective, step, samples=32)
        optimizer.zero_grad()
        losses = objective(batch, len(batch))
        losses.total.backward()
        optimizer.step()
        objective.method.update(losses.encoded, batch.clock, losses.batch.samples)
    more_flip(objective)


def more_flip(objective: Objective) -> None:
    """Assert that larger bounds flip more labels and leave smaller margins."""
    reports = [shares(objective, Adversarial(levels / 255, branch="main"), 30) for levels in (0, 2, 4, 8)]
    assert "flipped/adversarial" not in reports[0], "nothing was perturbed"
    flipped = [report.get("flipped/adversarial", 0.0) for report in reports]
    assert flipped == sorted(flipped)
    assert flipped[0] < flipped[1] < flipped[3]
    hard = [report["margin/adversarial"] for report in reports[1:]]
    assert reports[1]["margin/clean"] > hard[0] > hard[1] > hard[2]


def test_parts_that_mix_alike_share_their_metrics() -> None:
    objective = build("simclr", Sum((1.0, Clean()), (0.5, CutMix(alpha=0.3)), (0.5, CutMix(alpha=4.0))))
    losses = objective(make_batch(objective), 8)
    _, (some, some_B), (other, other_B) = losses.terms
    assert some.name == other.name == "cutmix"
    meter = Meter(CPU)
    meter.add_losses(losses, objective.pairs)
    told = meter.report()
    assert told["loss/cutmix"] == pytest.approx(torch.cat([some_B, other_B]).mean().item(), rel=1e-5)
    floors = [
        pair.weight * entropy(term.batch.mixes[pair.online]) for term in (some, other) for pair in objective.pairs
    ]
    floor = torch.stack(floors).sum().item() / 16
    assert told["loss/cutmix_above_floor"] == pytest.approx(told["loss/cutmix"] - floor, rel=1e-5)


def test_hardness_and_overlap_are_means_over_images_with_a_label() -> None:
    """All candidates of an image without one have a loss of 0, and the first of them is taken: nothing was chosen."""
    objective = build("deepcluster", HardViews(4))
    batch = make_batch(objective, samples=16)
    losses = objective(batch, len(batch))
    labelled_B, selection = losses.labelled, losses.batch.selection
    assert labelled_B is not None and selection is not None and selection.hardness is not None
    assert 0 < labelled_B.sum() < len(batch)
    meter = Meter(CPU)
    meter.add_losses(losses, objective.pairs)
    told = meter.report()
    hardness_AB = selection.hardness[:, labelled_B]
    assert told["hardness/mean"] == pytest.approx(hardness_AB.mean().item(), rel=1e-5)
    assert told["hardness/chosen"] == pytest.approx(hardness_AB.amax(0).mean().item(), rel=1e-5)
    assert told["loss/clean"] == pytest.approx(losses.terms[0][1][labelled_B].mean().item(), rel=1e-5)


def test_mixed_views_lie_nearer_to_the_boundary() -> None:
    objective = build("simclr", Clean())
    for step in range(12):
        train_step(objective, photographs(objective, step, samples=32), lr=0.1)
    mixed = shares(objective, CutMix(), 30)
    assert mixed["margin/cutmix"] < mixed["margin/clean"]
    assert mixed["flipped/cutmix"] > 0


def test_an_attack_of_no_extent_flips_nothing() -> None:
    """Through the branch that starts as a copy."""
    objective = build("simclr", Adversarial(0.0))
    measures = objective(make_batch(objective), 8).measures
    assert measures["flipped/adversarial"].sum() == 0
    torch.testing.assert_close(measures["margin/adversarial"], measures["margin/clean"])


@pytest.mark.parametrize("network", ["batchnorm", "vit"])
@pytest.mark.parametrize("attack", [Adversarial(4 / 255), Adversarial(4 / 255, steps=2)], ids=["fgsm", "pgd"])
def test_measuring_changes_nothing(attack: Adversarial, network: str) -> None:
    after = []
    for measure in (0, 1):
        objective = build("simclr", Sum((1.0, Clean()), (0.5, replace(attack, measure=measure))), network)
        for step in range(2):
            torch.manual_seed(step)
            train_step(objective, make_batch(objective, step=step))
        after.append(state(objective))
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])


def test_raised_is_counted_in_every_so_manieth_attack() -> None:
    objective = build("simsiam", Chain(HardViews(4), Sum((1.0, Clean()), (1.0, Adversarial(every=2, measure=3)))))
    measured = [s for s in range(16) if "attack/raised" in objective(make_batch(objective, step=s), 8).measures]
    assert measured == [4, 10]  # of the attacks in steps 0, 2, 4, ... each third


def test_raised_leaves_out_images_without_a_label() -> None:
    objective = build("scored clusters", Adversarial(8 / 255, measure=1))
    batch = make_batch(objective)
    raised = objective(batch, 8).measures["attack/raised"]
    assert torch.equal(raised.isnan(), ~objective.method.valid(batch))  # type: ignore[operator]
    assert raised.nanmean() > 0.9
