"""Sums over similarities in blocks: the plain form, in memory that grows with the batch and not with its square."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.profiler import ProfilerActivity, profile

from hardviews.batch import Batch
from hardviews.errors import UserError
from hardviews.methods.blocks import few, log_sum
from hardviews.methods.moco import MoCoConfig
from hardviews.methods.simclr import SimCLRConfig
from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.views.pixels import Crops
from tests.laws.cases import STRATEGIES, VIEW, build, make_batch


def plain(anchors_BD: Tensor, candidates_GD: Tensor, temperature: float, excluded_B: Tensor | None) -> Tensor:
    logits = anchors_BD @ candidates_GD.T / temperature
    if excluded_B is not None:
        logits = logits.scatter(1, excluded_B[:, None], -torch.inf)
    return logits.logsumexp(1)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(2, 11), st.integers(1, 4)),
    block=st.integers(1, 6),
    temperature=st.floats(0.05, 2),
    exclude=st.booleans(),
    seed=st.integers(0, 100),
)
def test_values_and_gradients_are_those_of_the_plain_form(
    sizes: tuple[int, int, int], block: int, temperature: float, exclude: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchors, candidates, width = sizes
    found = []
    excluded_B = torch.randint(candidates, (anchors,), generator=generator) if exclude else None
    given_ = [torch.randn(n, width, generator=generator, dtype=torch.float64) for n in (anchors, candidates)]
    weights_B = torch.randn(anchors, generator=generator, dtype=torch.float64)
    for form in (plain, lambda a, c, t, e: log_sum(a, c, t, block, e)):
        leaves = [tensor.clone().requires_grad_() for tensor in given_]
        total_B = form(*leaves, temperature, excluded_B)
        (total_B * weights_B).sum().backward()
        found.append((total_B.detach(), *(leaf.grad for leaf in leaves)))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


CONFIGS: dict[str, Any] = {
    "simclr": SimCLRConfig(hidden=16, output=8, temperature=0.2, view=VIEW),
    "moco": MoCoConfig(hidden=16, output=8, queue=12, momentum=0.9, view=VIEW),
}


@pytest.mark.parametrize("strategy", ["everything", "along_clean"])
@pytest.mark.parametrize("method", CONFIGS)
def test_a_step_in_blocks_is_the_plain_step(method: str, strategy: str) -> None:
    """In double precision, with targets of mixed views and candidates of a selection."""
    found = []
    for block in (1024, 3):
        objective = build(method, STRATEGIES[strategy])
        objective.method.config = replace(CONFIGS[method], block=block)  # type: ignore[assignment]
        losses, gradients = step(objective.double(), in_double(make_batch(objective)))
        found.append((*losses, *gradients))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


def in_double(batch: Batch) -> Batch:
    views = {}
    for slot, view in batch.views.items():
        views[slot] = replace(view, source=Crops(view.pixels().double(), view.normalisation))
    return replace(batch, views=views)


def step(objective: Objective, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    with without_noise(objective):
        losses = objective(batch, len(batch))
    losses.total.backward()
    return [losses_B for _, losses_B in losses.terms], [p.grad for p in objective.parameters() if p.grad is not None]


def test_small_batches_take_the_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing changes for them, not even the last bit."""
    assert few(torch.empty(1024, 1), torch.empty(1024, 1), 1024)
    assert not few(torch.empty(1024, 1), torch.empty(1025, 1), 1024)
    for name in ("simclr", "moco"):
        monkeypatch.setattr(f"hardviews.methods.{name}.log_sum", None)
        objective = build(name, STRATEGIES["everything"])
        objective(make_batch(objective), 8)


def peak(batch: int, block: int) -> int:
    """Return the most bytes that SimCLR's loss holds at once, forward and backward."""
    method = SimCLRConfig(hidden=4, output=16, block=block, view=VIEW).build(torch.nn.Identity(), 4)
    objective_pairs = method.pairs()
    views = {pair.online: normalize(torch.randn(batch, 16), dim=1).requires_grad_() for pair in objective_pairs}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        targets = {slot: method.label(view) for slot, view in views.items()}
        method.pair_losses(None, views, targets, objective_pairs).mean().backward()  # type: ignore[arg-type]
    now = most = 0
    results = profiler.profiler.kineto_results  # type: ignore[union-attr]
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def test_memory_grows_with_the_batch_and_not_with_its_square() -> None:
    """Eight times the batch: the plain form takes 64 times the memory, blocks at most 8 times."""
    assert peak(1024, block=4096) > 40 * peak(128, block=4096)
    assert peak(1024, block=64) < 8 * peak(128, block=64)


@pytest.mark.parametrize("config", [SimCLRConfig, MoCoConfig])
def test_blocks_of_nothing_are_refused(config: Any) -> None:
    with pytest.raises(UserError, match="block"):
        config(block=0)
