"""CutMix's boxes and weights: the published distribution, and the exact unpasted area."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardviews.strategies.cutmix import CutMix, cut_box, paste
from hardviews.views.random import Purpose, beta, uniform
from tests.laws.cases import build, make_batch


# Under Beta(1, 1): mean weight, P(weight < 0.5), P(weight > 0.9), P(no box), mean entropy of the label in nats.
@pytest.mark.parametrize(
    ("side", "mean", "below", "above", "none", "entropy"),
    [
        (224, 0.682, 0.175, 0.137, 0.0001, 0.536),
        (96, 0.686, 0.171, 0.142, 0.0005, 0.535),
        (32, 0.701, 0.145, 0.169, 0.004, 0.524),
    ],
)
def test_published_distribution(
    side: int, mean: float, below: float, above: float, none: float, entropy: float
) -> None:
    position = torch.arange(200_000)
    drawn_B = beta(5, Purpose.WEIGHT, 0, position, 1.0)
    box_B4 = cut_box(drawn_B, uniform(5, Purpose.BOX, 0, position, 0, 2), side, side)
    weight_B = 1 - ((box_B4[:, 2] - box_B4[:, 0]) * (box_B4[:, 3] - box_B4[:, 1])).double() / side**2
    other_B = 1 - weight_B
    entropy_B = torch.special.entr(weight_B) + torch.special.entr(other_B)
    assert weight_B.mean() == pytest.approx(mean, abs=0.0025)
    assert (weight_B < 0.5).double().mean() == pytest.approx(below, abs=0.0035)
    assert (weight_B > 0.9).double().mean() == pytest.approx(above, abs=0.0035)
    assert (weight_B == 1).double().mean() == pytest.approx(none, abs=max(1e-4, none / 5))
    assert entropy_B.mean() == pytest.approx(entropy, abs=0.0025)


def published_box(weight: float, x: int, y: int, width: int, height: int) -> list[int]:
    """Algorithm 1 as its authors wrote it, one sample at a time; top, left, bottom, right."""
    ratio = math.sqrt(1.0 - weight)
    cut_width, cut_height = int(width * ratio), int(height * ratio)

    def clip(value: int, size: int) -> int:
        return min(max(value, 0), size)

    left, right = clip(x - cut_width // 2, width), clip(x + cut_width // 2, width)
    top, bottom = clip(y - cut_height // 2, height), clip(y + cut_height // 2, height)
    return [top, left, bottom, right]


unit = st.floats(0, 1)
below_one = st.floats(0, 1, exclude_max=True)


@given(st.lists(st.tuples(unit, below_one, below_one), min_size=1, max_size=8), st.integers(1, 64), st.integers(1, 64))
def test_boxes_are_the_published_ones(draws: list[tuple[float, float, float]], height: int, width: int) -> None:
    drawn = torch.tensor(draws, dtype=torch.float64)
    boxes = cut_box(drawn[:, 0], drawn[:, 1:], height, width)
    for (weight, y, x), box in zip(draws, boxes.tolist(), strict=True):
        assert box == published_box(weight, int(x * width), int(y * height), width, height)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_paste_fills_the_box_and_nothing_else(height: int, width: int, seed: int) -> None:
    position = torch.arange(6)
    boxes = cut_box(
        beta(seed, Purpose.WEIGHT, 0, position, 1.0), uniform(seed, Purpose.BOX, 0, position, 0, 2), height, width
    )
    mixed = paste(torch.zeros(6, 3, height, width), torch.ones(6, 3, height, width), boxes)
    for picture, (top, left, bottom, right) in zip(mixed, boxes.tolist(), strict=True):
        assert picture[:, top:bottom, left:right].numel() == picture.sum() == 3 * (bottom - top) * (right - left)


@pytest.mark.parametrize("scope", ["group", "sample"])
def test_scope(scope: str) -> None:
    """A weight and a box for each group, as published, or for each sample; never one for the rank."""
    objective = build("simsiam", CutMix(scope=scope))  # type: ignore[arg-type]
    batch = make_batch(objective, samples=32)
    (term,) = objective.strategy(batch, objective)
    for mix in term.batch.mixes.values():
        assert mix.box is not None
        drawn = [len(boxes.unique(dim=0)) for boxes in mix.box.split(batch.group)]
        assert max(drawn) == (1 if scope == "group" else batch.group)
        assert len(mix.box.unique(dim=0)) > 32 // batch.group - 2
    first, second = term.batch.mixes.values()
    assert not torch.equal(first.weight, second.weight), "two slots share a draw"
