"""Every ImageNet recipe takes a whole step at its real size: loss, gradient, optimizer, update.

A batch is tiny, all else is real: network, resolution, number of views, heads, queues and banks. `make test` takes one
recipe of most methods, `make recipes` takes them all.
"""

from dataclasses import replace

import pytest
import torch

from hardviews.batch import Samples
from hardviews.clock import Clock
from hardviews.objective.objective import Objective
from hardviews.recipes import IMAGENET, recipe_named
from hardviews.runs.state import first_not_finite
from tests.laws.cases import make_batch

SAMPLES = 2
ROWS = 3010
# Heads of 150 million weights take more seconds than a quick test may.
LARGE = {"VICRegConfig", "BarlowTwinsConfig"}


def cases() -> list:
    """Return every recipe; all but the first of a method are marked, and all those with large heads."""
    chosen, methods = [], set(LARGE)
    for function in IMAGENET:
        name = function.__name__
        method = type(recipe_named(name).method).__name__
        chosen.append(pytest.param(name, marks=[pytest.mark.recipes] if method in methods else [], id=name))
        methods.add(method)
    return chosen


@pytest.mark.parametrize("name", cases())
def test_a_step_at_real_size(name: str) -> None:
    recipe = recipe_named(name)
    training = recipe.training
    torch.manual_seed(0)
    method = recipe.method.build(recipe.backbone.build(), recipe.backbone.num_features)
    for weight in method.parameters():
        if weight.requires_grad and not weight.any():
            weight.data.fill_(0.1)  # residual branches that begin at zero let no gradient through
    objective = Objective(method, recipe.strategy).train()
    optimizer = recipe.optimizer.build(method, training.batch)
    total = training.epochs * 10 * training.batch
    clock = Clock(0, training.epochs // 2, 5 * training.epochs, total // 2, total)
    batch = replace(make_batch(objective, SAMPLES), clock=clock, group=SAMPLES)
    bank = getattr(method, "bank", None)
    if bank is not None:  # DeepCluster's: as many samples as it makes clusters of, and two that the step trains on
        method.allocate(ROWS)
        embeddings = torch.randn(ROWS, *bank.rows.shape[::2])
        bank.write(embeddings / embeddings.norm(dim=2, keepdim=True), Samples(torch.arange(ROWS), torch.arange(ROWS)))
    method.begin_epoch(clock, lambda: iter([batch]))
    before = {key: weight.detach().clone() for key, weight in method.named_parameters()}

    rate = recipe.schedule.apply(optimizer, recipe.optimizer.peak(training.batch), clock, training.epochs)
    losses = objective(batch, SAMPLES)
    losses.total.backward()
    for module in method.frozen(clock):
        for parameter in module.parameters():
            parameter.grad = None
    recipe.optimizer.limit(method)
    gradients = {key: weight.grad for key, weight in method.named_parameters() if weight.grad is not None}
    # A gradient may be zero, with ReLU and a batch of two; most are not.
    pulled = {key for key, gradient in gradients.items() if gradient.abs().max() > 0}
    optimizer.step()
    method.update(losses.encoded, clock, losses.batch.samples)

    assert losses.total.isfinite() and rate > 0
    assert first_not_finite(objective) is None
    frozen = {id(p) for module in method.frozen(clock) for p in module.parameters()}
    trainable = {key for key, p in method.named_parameters() if p.requires_grad and id(p) not in frozen}
    assert gradients.keys() == trainable
    moved = {key for key in gradients if not torch.equal(before[key], method.get_parameter(key))}
    assert len(pulled) > 0.9 * len(gradients)
    assert len(pulled & moved) > 0.9 * len(pulled), sorted(pulled - moved)
