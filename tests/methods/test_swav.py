"""SwAV's state: prototypes on the sphere and frozen at first, a queue of clean embeddings, codes over all of it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax

from hardviews.batch import Batch, Samples
from hardviews.errors import UserError
from hardviews.methods.sinkhorn import sinkhorn
from hardviews.methods.swav import GLOBALS, SwAV, SwAVConfig
from hardviews.methods.swav_queue import EmbeddingQueue
from hardviews.objective.objective import Objective
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import swav_global, swav_local
from hardviews.views.plan import Slot
from tests.laws import laws
from tests.laws.cases import METHODS, STRATEGIES, build, make_batch, state, train_step


def swav(strategy: Strategy | None = None, network: str = "batchnorm") -> tuple[Objective, SwAV]:
    objective = build("swav", strategy or Clean(), network)
    assert isinstance(objective.method, SwAV)
    return objective, objective.method


def at(batch: Batch, **when: int) -> Batch:
    return replace(batch, clock=replace(batch.clock, **when))


def test_the_defaults_are_the_published_ones() -> None:
    config = SwAVConfig()
    assert (config.prototypes, config.output, config.hidden) == (3000, 128, 2048)
    assert (config.temperature, config.epsilon, config.iterations, config.queue) == (0.1, 0.05, 3, 0)
    method = config.build(nn.Flatten(), 8)
    assert isinstance(method, SwAV)
    assert [name for name, _ in method.prototypes.named_parameters()] == ["weight"]
    plan = method.plan()
    assert [(p.name, p.slots, p.target, p.augmentation) for p in plan.pools] == [
        ("global", 2, True, swav_global()),
        ("local", 6, False, swav_local()),
    ]
    pairs = method.pairs()
    assert len(pairs) == 2 * 7
    assert all(pair.weight == 1 / 14 and pair.target in GLOBALS and pair.online != pair.target for pair in pairs)


def test_two_views_alone() -> None:
    method = SwAVConfig(locals=0, prototypes=5).build(nn.Flatten(), 8)
    assert [pool.name for pool in method.plan().pools] == ["global"]
    assert [pair.weight for pair in method.pairs()] == [0.5, 0.5]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"epsilon": 0.0}, {"temperature": 0.0}, {"iterations": 0}, {"queue": -1}),
        *({"prototypes": 1}, {"hidden": 0}, {"output": 0}),
    ],
)
def test_settings_that_assign_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^method\.{next(iter(wrong))} is "):
        SwAVConfig(**wrong)


def test_prototypes_stay_on_the_sphere() -> None:
    objective, method = swav()
    for step in range(3):
        lengths = method.prototypes.weight.detach().norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))
        before = method.prototypes.weight.detach().clone()
        train_step(objective, make_batch(objective, step=step))
        assert not torch.equal(before, method.prototypes.weight)


def test_the_length_of_the_prototypes_is_of_no_account() -> None:
    """To the loss: its gradient treats the length as a constant, and so has a part along each prototype."""
    objective, method = swav()
    batch = make_batch(objective)
    loss = objective(batch, len(batch)).total
    loss.backward()
    weight, gradient = method.prototypes.weight, method.prototypes.weight.grad
    assert gradient is not None
    assert (weight * gradient).sum(1).norm() > 0.1 * gradient.norm()
    with torch.no_grad():
        weight.mul_(3)
    torch.testing.assert_close(objective(batch, len(batch)).total, loss)


def test_prototypes_are_frozen_at_first() -> None:
    method = SwAVConfig(prototypes=5, freeze=3).build(nn.Flatten(), 8)
    objective, _ = swav()
    clock = make_batch(objective).clock
    frozen = [method.frozen(replace(clock, step=step)) for step in range(5)]
    assert isinstance(method, SwAV)
    assert frozen == [(method.prototypes,)] * 3 + [()] * 2


def test_no_gradient_goes_through_the_codes() -> None:
    objective, _ = swav()
    _, encoded = objective.pairwise(make_batch(objective))
    assert all(embedding.requires_grad for embedding in encoded.online.values())
    assert not any(code.requires_grad for code in encoded.target.values())
    assert set(encoded.target) == set(GLOBALS)


def test_queue_keeps_the_newest() -> None:
    queue = EmbeddingQueue(5, 2)
    kept = torch.zeros(0, 2)
    for start in range(4):
        assert bool(queue.present().all()) == (len(kept) >= 5)
        assert queue.present().shape == (5,)
        rows = torch.randn(2, 2) + start
        queue.push(rows)
        kept = torch.cat([rows, kept])
        assert torch.equal(queue.rows[: len(kept)], kept[:5])
    queue.push(torch.arange(14.0).view(7, 2))
    assert torch.equal(queue.rows, torch.arange(10.0).view(5, 2))


def test_queue_fills_from_its_epoch_on() -> None:
    objective, method = swav()
    batch = at(make_batch(objective), epoch=0)
    train_step(objective, batch)
    assert method.queue.filled == 0
    train_step(objective, at(batch, epoch=1))
    assert method.queue.filled == 8


def test_a_queue_that_is_not_full_changes_nothing() -> None:
    objective, method = swav()
    batch = make_batch(objective)
    without = objective.pairwise(at(batch, epoch=0))[0]
    method.queue.push(torch.randn(7, 8))
    torch.testing.assert_close(objective.pairwise(batch)[0], without)
    method.queue.push(torch.randn(1, 8))
    assert not torch.allclose(objective.pairwise(batch)[0], without)


def test_codes_of_the_batch_beside_the_queue() -> None:
    objective, method = swav()
    train_step(objective, make_batch(objective))
    batch = make_batch(objective, first=8, step=1)
    _, encoded = objective.pairwise(batch)
    for slot in GLOBALS:
        rows = torch.cat([method.queue.rows, encoded.online[slot]])
        codes = sinkhorn(rows @ method.prototypes.weight.T, 0.05, 3)
        torch.testing.assert_close(encoded.target[slot], codes[8:])


def test_only_clean_selected_views_enter_the_queue() -> None:
    objective, method = swav(STRATEGIES["everything"])
    batch = make_batch(objective)
    losses = objective(batch, len(batch))
    with torch.no_grad():
        clean = objective.pairwise(replace(losses.batch, hard={}, mixes={}))[1].online[GLOBALS[0]]
    method.update(losses.encoded, batch.clock, losses.batch.samples)
    assert len(losses.terms) == 3
    torch.testing.assert_close(method.queue.rows, clean)


def test_which_rows_leave_the_queue_does_not_hang_on_the_order_of_the_batch() -> None:
    """Two ranks of two micro-batches hold the rows of a step in another order than one does."""
    kept = []
    for order in (torch.arange(6), torch.tensor([0, 1, 4, 5, 2, 3])):
        objective, method = swav()
        batch = make_batch(objective)
        batch = replace(batch, samples=Samples(torch.tensor([7, 3, 3, 2, 5, 3]), batch.position))
        losses = objective(batch, len(batch))
        for _ in range(2):
            encoded = losses.encoded.map(lambda rows, order=order: rows[order])
            method.update(encoded, batch.clock, batch.samples[order])
        kept.append(method.queue.rows.clone())
    assert len(kept[0]) % 6
    assert torch.equal(*kept)


def test_hard_views_never_enter_the_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def seen(scores: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(scores))
        return sinkhorn(scores, *rest)

    monkeypatch.setattr("hardviews.methods.swav.sinkhorn", seen)
    objective, method = swav(STRATEGIES["hexa"])
    batch = at(make_batch(objective), epoch=0)
    losses = objective(batch, len(batch))
    assert sizes == [8, 8]
    codes = losses.encoded.target[GLOBALS[0]]
    clean = sinkhorn(losses.encoded.online[GLOBALS[0]] @ method.prototypes.weight.T, 0.05, 3)
    torch.testing.assert_close(codes, clean.detach())


@pytest.mark.parametrize("network", ["batchnorm", "vit"])
def test_selection_equals_brute_force_beside_a_full_queue(monkeypatch: pytest.MonkeyPatch, network: str) -> None:
    """Law 2 again: a candidate's code is the same in whichever slot it is considered."""
    make = METHODS["swav"]

    def filled(backbone: nn.Module, features: int) -> SwAV:
        method = make(backbone, features)
        assert isinstance(method, SwAV)
        method.queue.push(nn.functional.normalize(torch.randn(8, 8), dim=1))
        return method

    monkeypatch.setitem(METHODS, "swav", filled)
    laws.selection_equals_brute_force("swav", network)
    laws.scoring_changes_nothing("swav", network, HardViews(4))


def test_hardness_is_the_swapped_prediction_of_the_candidates() -> None:
    objective, method = swav(HardViews(4))
    batch = make_batch(objective)
    (term,) = objective.strategy(batch, objective)
    selection = term.batch.selection
    assert selection is not None
    globals_ = [Slot("global", k) for k in range(4)]
    locals_ = [Slot("local", k) for k in range(2)]
    with torch.no_grad():
        encoded = method.encode(batch, globals_ + locals_, globals_)
        log = {s: log_softmax(z @ method.prototypes.weight.T / 0.1, 1) for s, z in encoded.online.items()}
        for row, hardness in zip(selection.table.tolist(), selection.hardness, strict=True):
            n, m = (globals_[k] for k in row[:2])
            views = {n: m, m: n}
            wanted = sum(
                -(encoded.target[code] * log[view]).sum(1) / 6 for code in views for view in [views[code], *locals_]
            )
            torch.testing.assert_close(hardness, wanted)


def test_scores_give_the_prototype() -> None:
    objective, method = swav()
    batch = make_batch(objective)
    pair = objective.pairs[0]
    losses, encoded = objective.pairwise(batch)
    told = method.scores(batch, encoded.online, encoded.target, pair)
    assert told is not None
    logits, label = told
    code = encoded.target[pair.target]
    assert torch.equal(label, code.argmax(1))
    torch.testing.assert_close(cross_entropy(logits, code, reduction="none"), losses[0])


def test_the_queue_travels_with_a_checkpoint() -> None:
    objective, _ = swav()
    train_step(objective, make_batch(objective))
    assert {"method.queue.rows", "method.queue.filled"} <= set(state(objective))
    other, _ = swav()
    other.load_state_dict(objective.state_dict())
    batch = make_batch(objective, first=8, step=1)
    assert torch.equal(objective.pairwise(batch)[0], other.pairwise(batch)[0])


def test_scores_keep_full_precision_in_a_reduced_one() -> None:
    objective, method = swav()
    batch = make_batch(objective)
    with torch.autocast("cpu", torch.bfloat16):
        losses, encoded = objective.pairwise(batch)
    assert losses.dtype == torch.float32
    code = encoded.target[GLOBALS[1]]
    log = log_softmax(encoded.online[GLOBALS[0]] @ method.prototypes.weight.T / 0.1, 1)
    first = next(i for i, pair in enumerate(objective.pairs) if (pair.online, pair.target) == GLOBALS)
    torch.testing.assert_close(losses[first], -(code * log).sum(1), rtol=1e-5, atol=1e-6)
