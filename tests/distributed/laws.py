"""Law 8: two processes equal one on the same global batch, whatever their shares."""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from hardviews.batch import Batch, View
from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.strategies.strategy import Strategy
from hardviews.views.pixels import Crops
from tests.distributed.faults import SETTINGS
from tests.distributed.pair import Pair
from tests.laws.cases import GROUP, build, make_batch, rows_of

EQUAL, UNEQUAL = (1, 1), (2, 1)


@dataclass(frozen=True)
class Case:
    """A case to run: shares are groups of each rank; a setting is a patch that all processes run under."""

    method: str
    strategy: Strategy
    network: str | None = None
    shares: tuple[int, int] = UNEQUAL
    dtype: torch.dtype = torch.float64
    steps: int = 2
    setting: str = "as it is"


@dataclass(frozen=True)
class Step:
    """One step's loss, per-sample losses by term, gradients (None for weights without one), and state after it."""

    total: Tensor
    terms: list[tuple[str, float, Tensor]]
    grads: dict[str, Tensor | None]
    state: dict[str, Tensor]


def take_steps(case: Case, fault: str = "as it is") -> list[Step]:
    """Take steps on this process's share of the global batch (on all of it if no group runs)."""
    with SETTINGS[case.setting](), SETTINGS[fault]():
        objective = build(case.method, case.strategy, case.network).to(case.dtype)
        alone = not dist.is_initialized()
        wrapped: Any = (
            objective
            if alone
            else DistributedDataParallel(objective, find_unused_parameters=True, broadcast_buffers=False)
        )
        trained = [p for p in objective.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, 0.05, momentum=0.9, weight_decay=0.1)
        steps = []
        for number in range(case.steps):
            batch = share(whole_batch(objective, case, number), case.shares)
            optimizer.zero_grad()
            # Stochastic depth draws from each process's own stream: the named exception to this law.
            with without_noise(objective):
                losses = wrapped(batch, sum(case.shares) * GROUP)
            losses.total.backward()
            optimizer.step()
            objective.method.update(losses.encoded, batch.clock, losses.batch.samples)
            objective.learn([losses.lesson])
            steps.append(
                Step(
                    losses.total.detach(),
                    [(term.name, term.weight, losses_B) for term, losses_B in losses.terms],
                    {n: None if p.grad is None else p.grad.clone() for n, p in objective.named_parameters()},
                    {n: t.clone() for n, t in objective.state_dict().items()},
                )
            )
        return steps


def whole_batch(objective: Objective, case: Case, step: int) -> Batch:
    samples = sum(case.shares) * GROUP
    batch = make_batch(objective, samples, first=step * samples, step=step)

    def cast(view: View) -> View:
        pixels = view.normalisation.normalise(view.source.tensor)  # type: ignore[attr-defined]
        mask = None if view.mask is None else view.mask.to(case.dtype)
        return replace(view, source=Crops(pixels.to(case.dtype), view.normalisation), mask=mask)

    return replace(batch, views={slot: cast(view) for slot, view in batch.views.items()})


def share(batch: Batch, shares: tuple[int, int]) -> Batch:
    if not dist.is_initialized():
        return batch
    rank = dist.get_rank()
    return rows_of(batch, slice(sum(shares[:rank]) * GROUP, sum(shares[: rank + 1]) * GROUP))


def two_processes_equal_one(
    pair: Pair, case: Case, fault: str = "as it is", rtol: float = 1e-6, atol: float = 1e-8
) -> None:
    """Law 8: losses, gradients and the state after the update. A fault is planted in the pair alone.

    The default is double precision, so that FGSM's sign does not depend on a rounding error: no gradient of the tests'
    pictures is within 1e-14 of zero unless it is zero. The tolerance is wider, because timm always resamples position
    embeddings in single precision. The gradient of the embeddings sums rounding errors of that size.
    """
    pair.start(take_steps, case, fault)
    alone = take_steps(case)
    both = pair.results()
    for one, *two in zip(alone, *both, strict=True):
        close = {"rtol": rtol, "atol": atol}
        torch.testing.assert_close(torch.stack([step.total for step in two]).mean(0), one.total, **close)
        assert [term[:2] for term in one.terms] == [term[:2] for term in two[0].terms]
        for t, (name, _, losses_B) in enumerate(one.terms):
            joined_B = torch.cat([step.terms[t][2] for step in two])
            torch.testing.assert_close(joined_B, losses_B, msg=lambda m, name=name: f"losses of {name}: {m}", **close)
        for step in two:
            compare(step.grads, one.grads, "gradient", close)
            compare(step.state, one.state, "state", close)
        for name, grad in two[0].grads.items():
            other = two[1].grads[name]
            assert (grad is None) == (other is None)
            assert grad is None or torch.equal(grad, other), f"{name}: the ranks' gradients differ"


def compare(two: dict[str, Any], one: dict[str, Any], what: str, close: dict[str, float]) -> None:
    assert two.keys() == one.keys()
    for name, tensor in one.items():
        assert (tensor is None) == (two[name] is None), f"{what} {name}: given in one world only"
        if tensor is not None:
            single = {"rtol": max(close["rtol"], 1e-3), "atol": max(close["atol"], 1e-5)}
            within = single if name.endswith("pos_embed") else close
            torch.testing.assert_close(two[name], tensor, msg=lambda m, n=name: f"{what} {n}: {m}", **within)
