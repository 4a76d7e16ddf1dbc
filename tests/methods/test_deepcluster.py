"""DeepCluster's memory, the time of its clustering, and images without a label."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from hardviews.batch import Batch, Mix, Samples
from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.methods import deepcluster, memory_bank
from hardviews.methods.deepcluster import REMEMBERED, TABLE, DeepCluster, DeepClusterConfig
from hardviews.methods.memory_bank import MemoryBank
from hardviews.models.batchnorm import BranchedBatchNorm
from hardviews.objective.objective import Objective
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.meter import Meter
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot
from tests.laws.cases import (
    CLUSTERS,
    METHODS,
    ROWS,
    STRATEGIES,
    assert_same_state,
    build,
    make_batch,
    online_encodings,
    state,
    train_step,
)

CLOCK = Clock(seed=3, epoch=0, step=0, progress=0, total=100)


@pytest.fixture(autouse=True)
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method as it is, without the labels that the laws find."""
    monkeypatch.setitem(METHODS, "real", CLUSTERS.build)


def made(strategy: Strategy | None = None, network: str = "batchnorm") -> tuple[Objective, DeepCluster]:
    objective = build("real", strategy or Clean(), network)
    assert isinstance(objective.method, DeepCluster)
    return objective, objective.method


def batches(objective: Objective, count: int = 6) -> Iterator[Batch]:
    """Yield batches of 8 that see rows 3 to 50 of 128."""
    return (make_batch(objective, first=8 * number) for number in range(count))


def begin(objective: Objective, epoch: int = 0) -> None:
    objective.method.begin_epoch(replace(CLOCK, epoch=epoch), lambda: batches(objective))


@pytest.mark.parametrize("network", ["batchnorm", "vit"])
def test_the_first_pass_fills_the_bank_and_moves_nothing_else(network: str) -> None:
    objective, method = made(network=network)
    before, stream = state(objective), torch.get_rng_state()
    begin(objective)
    assert method.bank.seen.nonzero().flatten().tolist() == list(range(3, 51))
    torch.testing.assert_close(method.bank.rows[:, 3:51].norm(dim=2), torch.ones(2, 48))
    assert torch.equal(stream, torch.get_rng_state()), "the random stream moved"
    after = state(objective)
    assert {n for n in before if not torch.equal(before[n], after[n])} == {
        "method.bank.rows",
        "method.bank.seen",
        "method.centroids",
        "method.labels",
    }
    # Its rows are those of a training pass.
    batch = make_batch(objective)
    if network == "batchnorm":
        encoded = objective(batch, 8).encoded
        for number, slot in enumerate(REMEMBERED):
            torch.testing.assert_close(method.bank.rows[number, 3:11], encoded.online[slot])


def test_samples_that_were_seen_have_labels_and_the_others_none() -> None:
    objective, method = made()
    assert (method.labels == -100).all()
    begin(objective)
    assert ((method.labels >= 0) == method.bank.seen).all()
    assert method.labels.max() < CLUSTERS.clusters
    torch.testing.assert_close(method.centroids.norm(dim=2), torch.ones(3, 10))
    assert objective.valid(make_batch(objective, first=44)).tolist() == [True] * 4 + [False] * 4


def test_begun_again_an_epoch_has_the_same_clusters_and_no_second_pass() -> None:
    objective, method = made()
    begin(objective)
    before = state(objective)

    def none() -> Iterator[Batch]:
        raise AssertionError("the bank is full")

    method.begin_epoch(CLOCK, none)
    assert_same_state(before, state(objective))
    method.begin_epoch(replace(CLOCK, epoch=1), none)
    assert not torch.equal(before["method.centroids"], method.centroids)


def test_heads_cluster_the_banks_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, method = made()
    begin(objective)
    clustered: list[Any] = []
    kmeans = deepcluster.spherical_kmeans

    def recorded(rows_ND: Any, *rest: Any) -> Any:
        clustered.append(rows_ND)
        return kmeans(rows_ND, *rest)

    monkeypatch.setattr(deepcluster, "spherical_kmeans", recorded)
    begin(objective, 1)
    assert [[torch.equal(rows, bank) for bank in method.bank.rows].index(True) for rows in clustered] == [0, 1, 0]
    # Heads of one bank begin elsewhere.
    assert not torch.equal(method.labels[0], method.labels[2])


@pytest.mark.parametrize("strategy", ["hard_views", "everything"])
def test_the_bank_takes_first_candidates_though_others_are_trained_on(strategy: str) -> None:
    objective, method = made(STRATEGIES[strategy])
    begin(objective)
    batch = make_batch(objective)
    first = {slot: rows.clone() for slot, rows in online_encodings(objective, batch).items()}
    losses = objective(batch, 8)
    assert losses.batch.selection is not None
    trained = online_encodings(objective, replace(losses.batch, hard={}, mixes={}))
    method.update(losses.encoded, batch.clock, losses.batch.samples)
    for number, slot in enumerate(REMEMBERED):
        torch.testing.assert_close(method.bank.rows[number, 3:11], first[slot])
        assert not torch.allclose(method.bank.rows[number, 3:11], trained[slot])


def test_scoring_at_another_size_does_not_reach_the_bank() -> None:
    objective, method = made(HardViews(4, size=12))
    begin(objective)
    batch = make_batch(objective)
    first = online_encodings(objective, batch)
    losses = objective(batch, 8)
    method.update(losses.encoded, batch.clock, losses.batch.samples)
    torch.testing.assert_close(method.bank.rows[0, 3:11], first[REMEMBERED[0]])


def test_a_selection_takes_the_two_worst_views() -> None:
    objective, _ = made(HardViews(6))
    begin(objective)
    batch = make_batch(objective)
    selection = objective.strategy(batch, objective)[0].batch.selection
    assert selection is not None
    assert len(selection.table) == 15, "the order of two views counts nothing"
    with torch.no_grad():
        alone_B = {}
        for number in range(6):
            view = replace(batch.views[Slot("global", number)], slot=REMEMBERED[0])
            losses_PB, _ = objective.pairwise(replace(batch, views={**batch.views, REMEMBERED[0]: view}))
            alone_B[number] = losses_PB[0]
    losses_VB = torch.stack([alone_B[number] for number in range(6)])
    worst_2B = losses_VB.topk(2, 0).indices.sort(0).values
    assert torch.equal(selection.table[selection.choice, :2].T, worst_2B)


def test_labels_that_are_absent_count_nothing() -> None:
    objective, method = made()
    begin(objective)
    batch = make_batch(objective)
    whole = objective(batch, 8).terms[0][1]
    method.labels[:, [4, 7]] = -100
    losses = objective(batch, 8)
    rest = [0, 2, 3, 5, 6, 7]
    torch.testing.assert_close(losses.total.detach(), whole[rest].mean())
    assert losses.terms[0][1][[1, 4]].tolist() == [0, 0]
    meter = Meter(torch.device("cpu"))
    meter.add_losses(losses, objective.pairs)
    assert meter.report()["loss/clean"] == pytest.approx(losses.total.item()), "a mean over what has no label"
    # Nor does a mixed view that has one complete label only.
    mix = Mix(torch.tensor([1, 2, 3, 0, 4, 5, 6, 7]), torch.full((8,), 0.5))
    assert objective.valid(replace(batch, mixes={REMEMBERED[0]: mix})).tolist() == [
        *(False, False, True, True),
        *(False, True, True, True),
    ]


def test_before_the_first_clusters_nothing_is_learnt() -> None:
    objective, _ = made()
    loss = objective(make_batch(objective), 8).total
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in objective.parameters())


def test_centroids_take_no_gradient_and_hold_for_the_epoch() -> None:
    objective, method = made()
    begin(objective)
    centroids, labels = method.centroids.clone(), method.labels.clone()
    assert "method.centroids" not in dict(objective.named_parameters())
    for step in range(3):
        train_step(objective, make_batch(objective, step=step))
    assert torch.equal(centroids, method.centroids)
    assert torch.equal(labels, method.labels)


def test_scores_are_of_the_first_head_and_agree_with_the_loss() -> None:
    objective, method = made()
    begin(objective)
    batch = make_batch(objective)
    with torch.no_grad():
        losses_PB, encoded = objective.pairwise(batch)
        heads = []
        for head in range(3):
            cosines = encoded.online[REMEMBERED[0]] @ method.centroids[head].T / CLUSTERS.temperature
            heads.append(torch.nn.functional.cross_entropy(cosines, method.labels[head, batch.index], reduction="none"))
        logits_BK, own_B = method.scores(batch, encoded.online, encoded.target, objective.pairs[0])
    torch.testing.assert_close(losses_PB[0], torch.stack(heads).mean(0))
    torch.testing.assert_close(-logits_BK.log_softmax(1).gather(1, own_B[:, None])[:, 0], heads[0])
    assert torch.equal(encoded.target[TABLE][:, 0], own_B)


@given(order=st.permutations(range(4)), cut=st.integers(1, 4))
def test_of_a_sample_that_comes_twice_the_later_row_is_kept(order: list[int], cut: int) -> None:
    """Whatever the order in which ranks and micro-batches hold the samples, and in which batch they come."""
    bank = MemoryBank(2, 3)
    bank.allocate(10)
    rows = normalize(torch.randn(4, 2, 3), dim=2)
    samples, written = Samples(torch.tensor([5, 2, 5, 9]), torch.tensor([3, 4, 7, 8])), bank.unwritten()
    for part in (order[:cut], order[cut:]):
        bank.write(rows[part], samples[torch.tensor(part, dtype=torch.int64)], written)
    assert torch.equal(bank.rows[:, [5, 2, 9]], rows[[2, 1, 3]].transpose(0, 1))
    assert bank.seen.nonzero().flatten().tolist() == [2, 5, 9]
    assert not bank.rows[:, ~bank.seen].any()
    later = normalize(torch.randn(1, 2, 3), dim=2)
    bank.write(later, Samples(torch.tensor([5]), torch.tensor([0])))  # of the next epoch
    assert torch.equal(bank.rows[:, 5], later[0])


def test_losses_in_double_precision_are_exact() -> None:
    objective = build("deepcluster", Clean()).double()
    batch = make_batch(objective, samples=24)
    views = {
        slot: replace(view, source=Crops(view.pixels().double(), view.normalisation))
        for slot, view in batch.views.items()
    }
    losses = objective(replace(batch, views=views), len(batch))
    assert losses.labelled is not None
    count = int(losses.labelled.sum())
    assert count not in (0, 16, 24), "float32 holds the inverse of such a count"
    torch.testing.assert_close(losses.total.detach(), losses.terms[0][1].sum() / count, rtol=1e-15, atol=0)


@pytest.mark.parametrize("method", ["swav", "deepcluster"])
def test_running_statistics_weigh_sizes_of_views_as_published(method: str) -> None:
    """As two passes, of all views of a size each: small views come later and count 0.1 / 0.19 of the whole."""
    objective = build(method, Clean())
    norm = next(m for m in objective.method.modules() if isinstance(m, BranchedBatchNorm))
    assert norm.running_mean is not None
    batch = make_batch(objective)
    means: dict[str, list[torch.Tensor]] = {"global": [], "local": []}
    norm.momentum = 1.0
    with torch.no_grad():
        for slot in objective.plan.slots:
            objective.method.backbone(batch.views[slot].pixels())
            means[slot.pool].append(norm.running_mean.clone())
    norm.momentum = 0.1
    for _ in range(200):
        with torch.no_grad():
            objective(batch, len(batch))
    sizes = [torch.stack(means[pool]).mean(0) for pool in ("global", "local")]
    wanted = (0.09 * sizes[0] + 0.1 * sizes[1]) / 0.19
    error = (norm.running_mean - wanted).abs().max()
    assert error < 0.1 * (sizes[0] - sizes[1]).abs().max()


def test_a_bank_of_hard_views_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeepCluster, "unselected_state", False)
    with pytest.raises(AssertionError):
        test_the_bank_takes_first_candidates_though_others_are_trained_on("hard_views")


def test_running_statistics_moved_by_the_first_pass_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    normalising = deepcluster.normalising
    monkeypatch.setattr(deepcluster, "normalising", lambda module, branch, update: normalising(module, branch, True))
    with pytest.raises(AssertionError):
        test_the_first_pass_fills_the_bank_and_moves_nothing_else("batchnorm")


def test_too_few_images_are_refused() -> None:
    method = replace(CLUSTERS, clusters=ROWS + 1).build(torch.nn.Flatten(), 4)
    with pytest.raises(UserError, match=f"{ROWS} images, fewer than the {ROWS + 1} clusters"):
        method.allocate(ROWS)
    method.check_epoch(ROWS + 1)
    with pytest.raises(UserError, match=f"in whole batches, {ROWS} images"):
        method.check_epoch(ROWS)
    objective, _ = made()
    with pytest.raises(UserError, match="in whole batches and not corrupt, 8 images"):
        objective.method.begin_epoch(CLOCK, lambda: batches(objective, 1))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"heads": 0}, {"clusters": 1}, {"iterations": -1}, {"temperature": 0.0}, {"locals": -1}),
        *({"hidden": 0}, {"output": 0}),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^method\.{next(iter(wrong))} is "):
        DeepClusterConfig(**wrong)


def test_without_small_views_the_full_size_ones_remain() -> None:
    method = replace(CLUSTERS, locals=0).build(torch.nn.Flatten(), 4)
    assert method.plan().slots == REMEMBERED
    assert [pair.weight for pair in method.pairs()] == [0.5, 0.5]
    assert memory_bank.MemoryBank(2, 4).rows.shape == (2, 0, 4)
