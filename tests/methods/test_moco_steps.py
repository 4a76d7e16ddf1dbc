"""MoCo step by step: the published order, the shuffle, the keys in the queue, every reading under the laws."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from hardviews.batch import Batch, Mix, Samples
from hardviews.errors import UserError
from hardviews.methods.moco import FIRST, SECOND, MoCo, MoCoConfig
from hardviews.methods.shuffle import Shuffle
from hardviews.objective.objective import Objective
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import mocov2
from hardviews.views.pixels import Crops
from hardviews.views.plan import Pair
from tests.laws import laws
from tests.laws.cases import GROUP, METHODS, STRATEGIES, VIEW, ConvNet, build, make_batch, state, train_step


def moco(strategy: Strategy | None = None, network: str = "batchnorm", name: str = "moco") -> tuple[Objective, MoCo]:
    objective = build(name, strategy or Clean(), network)
    assert isinstance(objective.method, MoCo)
    return objective, objective.method


def test_the_defaults_are_the_published_ones() -> None:
    config = MoCoConfig(queue=10)
    assert replace(config, queue=65536) == MoCoConfig()
    assert (config.momentum, config.temperature, config.view) == (0.999, 0.2, mocov2())
    method = config.build(nn.Flatten(), 48)
    assert isinstance(method, MoCo)
    shapes = [tuple(layer.weight.shape) for layer in method.projector if isinstance(layer, nn.Linear)]
    assert shapes == [(2048, 48), (128, 2048)]
    assert all(layer.bias is not None for layer in method.projector if isinstance(layer, nn.Linear))
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in method.projector)
    assert method.queue.keys.shape == (10, 128)
    assert method.pairs() == (Pair(FIRST, SECOND, 1.0),)


@pytest.mark.parametrize("wrong", [{"queue": 0}, {"temperature": 0.0}, {"momentum": 1.5}, {"hidden": 0}, {"output": 0}])
def test_settings_that_separate_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^method\.{next(iter(wrong))} is "):
        MoCoConfig(**wrong)


def test_a_group_of_one_is_refused() -> None:
    objective, _ = moco()
    with pytest.raises(UserError, match=r"training\.group is 1"):
        objective.pairwise(replace(make_batch(objective), group=1))
    moco()[1].check_group(2)
    # Nothing is normalised by groups.
    for other in (moco(network="vit"), moco(name="moco_symmetric")):
        other[1].check_group(1)


class Published:
    """Algorithm 1 and the published order: query, key encoder's move, key, loss, queue, optimizer's step.

    One GPU and one group, so plain BatchNorm; written without a line of the library's MoCo.
    """

    def __init__(self, method: MoCo) -> None:
        torch.manual_seed(0)
        self.query = nn.Sequential(ConvNet().double(), deepcopy(method.projector))
        self.query[0].load_state_dict(method.backbone.state_dict())
        self.key = deepcopy(self.query)
        self.queue = method.queue.keys.T.clone()
        self.place = 0
        self.optimizer = torch.optim.SGD(self.query.parameters(), 0.1)

    def step(self, first: Tensor, second: Tensor) -> Tensor:
        query = normalize(self.query(first), dim=1)
        with torch.no_grad():
            for slow, fast in zip(self.key.parameters(), self.query.parameters(), strict=True):
                slow.data = slow.data * 0.9 + fast.data * (1 - 0.9)
            key = normalize(self.key(second), dim=1)
        positive = torch.einsum("nc,nc->n", query, key)[:, None]
        negative = query @ self.queue.clone()
        logits = torch.cat([positive, negative], 1) / 0.2
        loss = cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))
        self.queue[:, self.place : self.place + len(key)] = key.T
        self.place = (self.place + len(key)) % self.queue.shape[1]
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()


def test_four_steps_of_the_published_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving the key encoder after the optimizer's step is moving it in the next step, the first one included."""
    config = MoCoConfig(hidden=16, output=8, queue=16, momentum=0.9, view=VIEW)
    monkeypatch.setitem(METHODS, "moco", config.build)
    objective, method = moco()
    objective.double()
    published = Published(method)
    for step in range(4):
        batch = make_batch(objective, first=8 * step, step=step)
        views = {
            slot: replace(view, source=Crops(view.pixels().double(), view.normalisation))
            for slot, view in batch.views.items()
        }
        wanted = published.step(*(view.pixels() for view in views.values()))
        objective.zero_grad()
        got = train_step(objective, replace(batch, views=views, group=8))
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(method.queue.keys.T, published.queue, rtol=1e-9, atol=1e-9)
    keys = dict(method.momentum.get_submodule("backbone").named_buffers())
    for name, buffer in published.key[0].named_buffers():
        torch.testing.assert_close(keys[name], buffer, rtol=1e-9, atol=1e-9)


def shuffle_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the positions in the order that they were encoded in, and the result for each row."""
    seen: list[Tensor] = []

    def encode(pixels: Tensor) -> Tensor:
        seen.append(pixels[:, 0, 0, 0])
        return pixels[:, 0, 0]

    shown = batch.position.double().view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    back = Shuffle(batch, torch.device("cpu"))(encode, shown)
    return seen[0].long(), back[:, 0].long()


def test_the_shuffle_is_a_permutation_and_is_undone() -> None:
    objective, _ = moco()
    orders = []
    for first, epoch, seed in ((0, 1, 0), (32, 1, 0), (0, 2, 0), (0, 1, 1)):
        batch = make_batch(objective, 32, first=first)
        batch = replace(batch, clock=replace(batch.clock, epoch=epoch, seed=seed))
        order, back = shuffle_of(batch)
        assert torch.equal(back, batch.position)
        assert torch.equal(order.sort().values, batch.position)
        groups = order.view(-1, GROUP) // GROUP
        assert not (groups == groups[:, :1]).all(1).any(), "a group of keys is a group of queries"
        orders.append(tuple((order - first).tolist()))
    assert len(set(orders)) == 4


def test_the_shuffle_follows_positions_not_rows() -> None:
    objective, _ = moco()
    batch = make_batch(objective, 16)
    order, _ = shuffle_of(batch)
    rows = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    permuted, back = shuffle_of(laws.permute(batch, rows))
    assert torch.equal(order, permuted)
    assert torch.equal(back, batch.position[rows])


def plain_keys(method: MoCo, pixels: Tensor) -> Tensor:
    """Encode by the key encoder with torch's own BatchNorm, of which these rows are the batch."""
    network = ConvNet()
    network.load_state_dict(method.momentum.get_submodule("backbone").state_dict())
    return normalize(method.momentum.get_submodule("projector")(network.train()(pixels)), dim=1)


def test_keys_are_normalised_in_shuffled_groups_and_queries_in_their_own() -> None:
    objective, method = moco()
    batch = make_batch(objective, 16)
    with torch.no_grad():
        _, encoded = objective.pairwise(batch)
        order, _ = shuffle_of(batch)
        pixels, keys = batch.views[SECOND].pixels(), encoded.target[SECOND]
        for group in order.view(-1, GROUP):
            torch.testing.assert_close(keys[group], plain_keys(method, pixels[group]), rtol=1e-4, atol=1e-5)
        pixels, queries = batch.views[FIRST].pixels(), encoded.online[FIRST]
        for group in batch.position.view(-1, GROUP):
            # Both encoders begin alike.
            torch.testing.assert_close(queries[group], plain_keys(method, pixels[group]), rtol=1e-4, atol=1e-5)


def test_without_groups_keys_are_normalised_by_all() -> None:
    objective, method = moco(name="moco_symmetric")
    batch = make_batch(objective, 16)
    with torch.no_grad():
        _, encoded = objective.pairwise(batch)
        for slot, view in batch.views.items():
            torch.testing.assert_close(encoded.target[slot], plain_keys(method, view.pixels()), rtol=1e-4, atol=1e-5)


def test_a_network_without_batchnorm_shuffles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hardviews.methods.moco.Shuffle", None)
    objective, method = moco(network="vit")
    assert method.rowwise_targets
    assert not moco()[1].rowwise_targets
    batch = make_batch(objective)
    objective.method.update(objective(batch, 8).encoded, batch.clock, batch.samples)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["moco", "moco_symmetric"])
def test_the_queue_takes_the_clean_keys_of_the_views_trained_on(name: str, strategy: str) -> None:
    objective, method = moco(STRATEGIES[strategy], name=name)
    before = method.queue.keys.clone()
    batch = make_batch(objective)
    losses = objective(batch, 8)
    assert torch.equal(method.queue.keys, before), "keys were queued before the step"
    with torch.no_grad():
        plain = replace(losses.batch, hard={}, mixes={})
        keys = method.encode(plain, [], [pair.target for pair in objective.pairs]).target
    method.update(losses.encoded, batch.clock, losses.batch.samples)
    wanted = torch.cat([*keys.values()])
    torch.testing.assert_close(method.queue.keys, torch.cat([wanted, before[len(wanted) :]]))


def test_the_order_of_ranks_and_micro_batches_does_not_reach_the_queue() -> None:
    queues = []
    for rows in (torch.arange(8), torch.tensor([4, 5, 0, 1, 6, 7, 2, 3])):
        objective, method = moco()
        batch = make_batch(objective)
        batch = replace(batch, samples=Samples(torch.tensor([7, 3, 3, 2, 5, 3, 1, 0]), batch.position))
        encoded = objective(batch, 8).encoded
        method.update(encoded.map(lambda t, rows=rows: t[rows]), batch.clock, batch.samples[rows])  # type: ignore[misc]
        queues.append(method.queue.keys)
    assert torch.equal(*queues)


def test_the_key_encoder_follows_by_name_past_an_adversarial_branch() -> None:
    objective, method = moco(STRATEGIES["everything"])
    assert any("adversarial" in name for name in state(objective))
    assert not any("adversarial" in name for name, _ in method.momentum.named_parameters())
    before = {name: tensor.clone() for name, tensor in method.momentum.named_parameters()}
    train_step(objective, make_batch(objective))
    online = dict(method.named_parameters())
    for name, tensor in method.momentum.named_parameters():
        torch.testing.assert_close(tensor, 0.9 * before[name] + 0.1 * online[name])
        assert not tensor.requires_grad


def test_logits_keep_full_precision_in_a_reduced_one() -> None:
    objective, method = moco()
    batch = make_batch(objective)
    with torch.autocast("cpu", torch.bfloat16):
        losses_PB, encoded = objective.pairwise(batch)
        mixes = {FIRST: Mix(torch.arange(8).flip(0), torch.full((8,), 0.4))}
        mixed = objective.pairwise(replace(batch, mixes=mixes))[0]
    assert losses_PB.dtype == mixed.dtype == torch.float32
    again = method.pair_losses(batch, encoded.online, encoded.target, objective.pairs)
    torch.testing.assert_close(losses_PB, again, rtol=1e-6, atol=1e-6)


def test_queue_and_key_encoder_travel_with_a_checkpoint() -> None:
    objective, _ = moco()
    train_step(objective, make_batch(objective))
    names = set(state(objective))
    assert {"method.queue.keys", "method.queue.pointer", "method.momentum.backbone.conv1.weight"} <= names
    objective.zero_grad()
    other, _ = moco()
    other.load_state_dict(objective.state_dict())
    batch = make_batch(objective, first=8, step=1)
    assert torch.equal(train_step(objective, batch), train_step(other, batch))
    assert all(torch.equal(a, b) for a, b in zip(state(objective).values(), state(other).values(), strict=True))


def test_hardness_is_of_ordered_pairs() -> None:
    objective, method = moco(HardViews(4))
    batch = make_batch(objective)
    (term,) = objective.strategy(batch, objective)
    selection = term.batch.selection
    assert selection is not None
    with torch.no_grad():
        slots = list(batch.views)
        encoded = method.encode(batch, slots, slots)
        for (n, m), hardness_B in zip(selection.table.tolist(), selection.hardness, strict=True):
            query, key = encoded.online[slots[n]], encoded.target[slots[m]]
            logits = torch.cat([(query * key).sum(1, keepdim=True), query @ method.queue.keys.T], 1) / 0.2
            torch.testing.assert_close(hardness_B, logits.logsumexp(1) - logits[:, 0], rtol=1e-5, atol=1e-5)
    assert len(selection.table) == 4 * 3


@pytest.mark.parametrize("batchnorm", ["group", "all"])
@pytest.mark.parametrize("labels", ["joint", "separate", "batch"])
def test_every_reading_under_the_laws_of_mixing(monkeypatch: pytest.MonkeyPatch, labels: Any, batchnorm: Any) -> None:
    config = MoCoConfig(16, 8, 12, 0.9, batchnorm=batchnorm, mixed_labels=labels, view=VIEW)
    monkeypatch.setitem(METHODS, "other", config.build)
    monkeypatch.setattr(laws, "JOINT_LABELS", set() if labels == "separate" else {"other"})
    laws.mixed_loss_is_linear("other", "batchnorm")
    laws.an_unchanged_hard_view_costs_the_same("other", "batchnorm")
    laws.nothing_added_is_the_clean_step("other", "batchnorm", "all of them")
    laws.permuting_samples_permutes_losses("other", "batchnorm", STRATEGIES["everything"])


@pytest.mark.parametrize(("labels", "joint"), [("joint", False), ("separate", True)])
def test_law_4_distinguishes_the_readings(monkeypatch: pytest.MonkeyPatch, labels: Any, joint: bool) -> None:
    monkeypatch.setitem(METHODS, "other", MoCoConfig(16, 8, 12, 0.9, mixed_labels=labels, view=VIEW).build)
    monkeypatch.setattr(laws, "JOINT_LABELS", {"other"} if joint else set())
    with pytest.raises(AssertionError):
        laws.mixed_loss_is_linear("other", "batchnorm")
