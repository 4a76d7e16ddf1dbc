"""MoCo: the meaning of its mixed labels, the groups of its normalisation, and its state."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from hardviews.batch import Mix
from hardviews.errors import UserError
from hardviews.methods.moco import FIRST, SECOND, MoCo, MoCoConfig
from hardviews.models.batchnorm import BranchedBatchNorm
from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from tests.laws.cases import build, make_batch, train_step
from tests.parity.plain import batch_of, pictures, without_network


def plain(mixed: str = "joint", symmetric: bool = False, queue: int = 9) -> Objective:
    """MoCo whose queries are pixels, and whose keys are those too."""
    torch.manual_seed(0)
    config = MoCoConfig(output=48, queue=queue, mixed_labels=mixed, symmetric=symmetric)  # type: ignore[arg-type]
    objective = without_network(config)
    objective.method.momentum.projector = torch.nn.Identity()
    return objective


def logits(objective: Objective, query: Tensor, keys: Tensor) -> Tensor:
    """One row of candidates: the keys named, then the queue."""
    queue = objective.method.queue.keys
    return torch.cat([(query * key).sum()[None] for key in keys] + [queue @ query]) / 0.2


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_clean_loss_is_the_published_one(symmetric: bool) -> None:
    objective = plain(symmetric=symmetric)
    views = pictures(6, 1)
    losses_B = objective.reduce(objective.pairwise(batch_of(views))[0])
    a, b = (normalize(view.detach().flatten(1), dim=1) for view in views)
    for i in range(6):
        both = [
            cross_entropy(logits(objective, query[i], key[i : i + 1])[None], torch.tensor([0]))
            for query, key in ((a, b), (b, a))
        ]
        torch.testing.assert_close(losses_B[i].detach(), sum(both) / 2 if symmetric else both[0])


@pytest.mark.parametrize("mixed", ["joint", "separate", "batch"])
def test_mixed_labels_are_read_as_documented(mixed: str) -> None:
    objective = plain(mixed)
    views = pictures(6, 2)
    partner = torch.tensor([1, 0, 2, 5, 3, 4])
    weight = torch.tensor([0.3, 0.6, 0.5, 0.0, 1.0, 0.9])
    batch = replace(batch_of(views), mixes={FIRST: Mix(partner, weight)})
    losses_B = objective.reduce(objective.pairwise(batch)[0])
    query, key = (normalize(view.detach().flatten(1), dim=1) for view in views)
    for i in range(6):
        j, w = int(partner[i]), float(weight[i])
        one, other = (
            cross_entropy(logits(objective, query[i], key[n : n + 1])[None], torch.tensor([0])) for n in (i, j)
        )
        if mixed == "separate" or w in (0, 1):
            wanted = w * one + (1 - w) * other
        elif mixed == "batch" or i == j:
            named = key if mixed == "batch" else key[i : i + 1]
            label = torch.zeros(len(named) + 9)
            label[i if mixed == "batch" else 0] += w
            label[j if mixed == "batch" else 0] += 1 - w
            wanted = cross_entropy(logits(objective, query[i], named)[None], label[None])
        else:
            label = torch.zeros(2 + 9)
            label[0], label[1] = w, 1 - w
            wanted = cross_entropy(logits(objective, query[i], key[[i, j]])[None], label[None])
            assert wanted >= -w * math.log(w) - (1 - w) * math.log(1 - w)
        torch.testing.assert_close(losses_B[i].detach(), wanted, rtol=1e-5, atol=1e-6)


def test_each_group_of_queries_has_its_own_statistics_and_keys_have_others() -> None:
    """A sample changes the queries of its own group alone; the keys it changes are of other samples too."""
    objective = build("moco", Clean())
    batch = make_batch(objective)

    def encoded(scale: float) -> tuple[Tensor, Tensor]:
        changed = {}
        for slot, view in batch.views.items():
            pixels = view.pixels().clone()
            pixels[0] *= scale
            changed[slot] = replace(view, source=type(view.source)(pixels, view.normalisation))
        with torch.no_grad():
            made = objective.method.encode(replace(batch, views=changed), [FIRST], [SECOND])
        return made.online[FIRST], made.target[SECOND]

    (queries, keys), (others, other_keys) = encoded(1.0), encoded(0.1)
    moved, moved_keys = (queries != others).any(1), (keys != other_keys).any(1)
    assert moved.tolist() == [True] * 4 + [False] * 4
    assert int(moved_keys.sum()) == 4
    assert moved_keys.tolist() != moved.tolist()


def test_running_statistics_are_the_mean_of_the_groups() -> None:
    objective = build("moco", Clean())
    method = objective.method
    assert isinstance(method, MoCo)
    batch = make_batch(objective)
    objective(batch, len(batch))
    with torch.no_grad():
        first = method.backbone.conv1(batch.views[FIRST].pixels())
    norm = method.backbone.bn1
    assert isinstance(norm, BranchedBatchNorm)
    parts = first.split(4)
    mean = torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0)
    var = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in parts]).mean(0)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * var)


def test_the_key_encoder_follows_by_name_and_the_queue_takes_clean_keys() -> None:
    objective = build("moco", HardViews(4))
    before = {name: weight.clone() for name, weight in objective.method.momentum.named_parameters()}
    batch = make_batch(objective)
    train_step(objective, batch)
    online = dict(objective.method.named_parameters())
    for name, weight in objective.method.momentum.named_parameters():
        torch.testing.assert_close(weight, 0.9 * before[name] + 0.1 * online[name].detach())
        assert weight.grad is None
    assert int(objective.method.queue.pointer) == 8


def test_scores_put_the_own_key_first() -> None:
    objective = build("moco", Clean(), "vit")
    batch = make_batch(objective)
    with torch.no_grad(), without_noise(objective):
        losses, encoded = objective.pairwise(batch)
        scores, own = objective.method.scores(batch, encoded.online, encoded.target, objective.pairs[0])
    torch.testing.assert_close(cross_entropy(scores, own, reduction="none"), losses[0])


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UserError, match=r"^method\.queue is 0; it must be 1 or more"):
        MoCoConfig(queue=0)
