"""The choice for a loop of one's own: by brute force, as the product chooses, and without a trace."""

from itertools import combinations, permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from hardviews.errors import UserError
from hardviews.own_loop.hard_views import hard_views
from hardviews.strategies.hard_views import HardViews
from tests.laws.cases import build, make_batch


class Network(nn.Module):
    """A small network with BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, view: Tensor) -> Tensor:
        return self.layers(view).flatten(1)


def candidates(number: int = 4, rows: int = 6, size: int = 16) -> list[Tensor]:
    return [torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(n)) for n in range(number)]


def distance(a: Tensor, b: Tensor) -> Tensor:
    return 1 - cosine_similarity(a, b)


def lopsided(a: Tensor, b: Tensor) -> Tensor:
    return distance(a, b) * a[:, 0]


@pytest.mark.parametrize("choose", ["hardest", "easiest"])
@pytest.mark.parametrize(("loss", "ordered"), [(distance, False), (lopsided, True)])
def test_the_choice_is_that_of_brute_force(loss: Any, ordered: bool, choose: Any) -> None:
    network, views = Network().eval(), candidates()
    chosen = hard_views(network, views, network, loss, ordered=ordered, choose=choose)
    sign = 1 if choose == "hardest" else -1
    for row in range(6):
        scores = {
            (i, j): loss(network(views[i][row : row + 1]), network(views[j][row : row + 1])).item()
            for i, j in (permutations if ordered else combinations)(range(4), 2)
        }
        best = max(scores, key=lambda pair, scores=scores: sign * scores[pair])
        assert tuple(chosen.candidates[row].tolist()) == best
        assert chosen.hardness[row].item() == pytest.approx(scores[best], abs=1e-5)
        for side, number in enumerate(best):
            assert torch.equal(chosen.views[side][row], views[number][row])
    assert chosen.losses.shape == (len(chosen.pairs), 6)


def test_it_chooses_as_a_run_does() -> None:
    objective = build("simsiam", HardViews(4))
    batch = make_batch(objective)
    (term,) = objective.strategy(batch, objective)
    selection = term.batch.selection
    assert selection is not None and selection.hardness is not None
    method = objective.method

    def encode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        embedding = method.embed(pixels)
        return method.predict(embedding), embedding.detach()

    def pair_loss(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
        return -(cosine_similarity(a[0], b[1]) + cosine_similarity(b[0], a[1])) / 2

    chosen = hard_views(objective, [view.pixels() for view in batch.views.values()], encode, pair_loss)
    table = [tuple(row) for row in selection.table.tolist()]
    assert {tuple(pair) for pair in chosen.pairs.tolist()} == set(table)
    order = [chosen.pairs.tolist().index(list(row)) for row in table]
    torch.testing.assert_close(chosen.losses[order], selection.hardness, rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.tensor([table.index(tuple(c)) for c in chosen.candidates.tolist()]), selection.choice)


def test_nothing_of_the_network_changes() -> None:
    network = Network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stream = torch.get_rng_state()
    hard_views(network, candidates(), network, distance, size=8)
    assert torch.equal(torch.get_rng_state(), stream)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_that_fails_is_left_as_it_was() -> None:
    network = Network().train()
    before = network.layers[1].running_mean.clone()

    def fails(a: Tensor, b: Tensor) -> Tensor:
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        hard_views(network, candidates(), network, fails)
    assert torch.equal(network.layers[1].running_mean, before)


def test_at_a_lower_resolution_the_views_stay_full() -> None:
    network, seen = Network(), set()

    def encode(view: Tensor) -> Tensor:
        seen.add(view.shape[-1])
        return network(view)

    chosen = hard_views(network, candidates(size=32), encode, distance, size=8)
    assert seen == {8}
    assert {view.shape[-1] for view in chosen.views} == {32}


@pytest.mark.parametrize(
    ("views", "loss", "said"),
    [
        (candidates(1), distance, "at least two"),
        ([*candidates(2), candidates(1, rows=5)[0]], distance, "one shape"),
        (candidates(2), lambda a, b: distance(a, b).mean(), r"one loss an image, of shape \(6,\)"),
    ],
)
def test_mistakes_are_named(views: Any, loss: Any, said: str) -> None:
    network = Network()
    with pytest.raises(UserError, match=said):
        hard_views(network, views, network, loss)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choose": "worst"}, "choose='worst': take hardest or easiest"),
        ({"size": 0}, "size=0: give pixels, 1 or more"),
        ({"network": lambda view: view}, r"got a function as its network: .* nn\.ModuleList"),
        ({"pair_loss": lambda a, b: distance(a, b) / 0 * 0}, "returned NaN for 6 of 6 images"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: Any, said: str) -> None:
    network = Network()
    given = {"network": network, "candidates": candidates(), "encode": network, "pair_loss": distance}
    with pytest.raises(UserError, match=said):
        hard_views(**(given | changes))
