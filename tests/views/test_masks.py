"""Block masks: the masked share, the shapes, and the inputs of a mask."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.views.masks import BlockMasks

GRID = (14, 14)


def clock(seed: int = 0, epoch: int = 0) -> Clock:
    return Clock(seed, epoch, 0, 0, 1)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    low=st.floats(0, 1),
    more=st.floats(0, 1),
    aspect=st.floats(0.05, 1),
    seed=st.integers(0, 2**31),
    number=st.sampled_from([0, 1, 1 << 16, 2 << 16 | 5]),
)
def test_a_mask_covers_no_more_than_its_share(
    height: int, width: int, low: float, more: float, aspect: float, seed: int, number: int
) -> None:
    high = low + (1 - low) * more
    masks = BlockMasks(1.0, (low, high), aspect).draw((height, width), clock(seed), torch.arange(12), number)
    assert masks.shape == (12, height * width)
    assert masks.dtype == torch.bool
    assert int(masks.sum(1).max()) <= high * height * width


@settings(deadline=None, max_examples=30)
@given(
    places=st.lists(st.integers(0, 2**31), min_size=1, max_size=20, unique=True),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 100),
)
def test_a_mask_depends_on_its_own_position_alone(places: list[int], seed: int, epoch: int) -> None:
    masks, position = BlockMasks(), torch.tensor(places)
    together = masks.draw(GRID, clock(seed, epoch), position, 1)
    alone = torch.cat([masks.draw(GRID, clock(seed, epoch), position[i : i + 1], 1) for i in range(len(places))])
    assert torch.equal(together, alone)
    assert torch.equal(masks.draw(GRID, clock(seed, epoch), position.flip(0), 1), together.flip(0))


def test_views_epochs_and_seeds_have_masks_of_their_own() -> None:
    position = torch.arange(64)
    drawn = [
        BlockMasks().draw(GRID, clock(seed, epoch), position, number)
        for seed, epoch, number in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1 << 16))
    ]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert (one != other).any(1).float().mean() > 0.6  # a quarter of two masks is empty in both


def test_half_of_the_views_are_masked_by_a_tenth_to_a_half() -> None:
    masks = BlockMasks().draw(GRID, clock(), torch.arange(4000), 0).float()
    shares = masks.mean(1)
    assert (shares == 0).float().mean() == pytest.approx(0.5, abs=0.03)
    masked = shares[shares > 0]
    assert masked.max() <= 0.5
    # Each mask comes near its share, whose mean is 0.3.
    assert masked.mean() == pytest.approx(0.3, abs=0.015)
    assert masked.quantile(0.02) > 0.08
    assert masked.std() == pytest.approx(0.4 / 12**0.5, abs=0.015)
    # Patches of the middle are covered more often than those of corners, and all sides alike.
    often = masks.mean(0).view(*GRID)
    assert often[5:9, 5:9].mean() > 2 * often[0, 0]
    for turned in (often.flip(0), often.flip(1), often.T):
        assert (turned - often).abs().max() < 0.04


def test_masks_are_blocks() -> None:
    masks = BlockMasks(1.0, (0.3, 0.3)).draw(GRID, clock(), torch.arange(500), 0).view(-1, *GRID).numpy()
    beside = (masks[:, 1:] & masks[:, :-1]).sum() + (masks[:, :, 1:] & masks[:, :, :-1]).sum()
    # Of single patches drawn by themselves, 0.3 of a patch's neighbours would be masked too.
    assert beside / (2 * masks.sum()) > 0.7


def test_a_rectangle_has_its_area_and_shape() -> None:
    """The first rectangle of a mask that it fills alone."""
    masks = BlockMasks(1.0, (0.09, 0.09), aspect=0.3).draw((12, 12), clock(), torch.arange(800), 0).view(-1, 12, 12)
    # At least (12 // 3)^2 = 16 patches are asked for and 12.96 are the most: roundings of 16 to 12.96 that fit.
    heights, widths = masks.any(2).sum(1), masks.any(1).sum(1)
    single = (heights * widths == masks.sum((1, 2))) & masks.any(2).any(1)
    assert single.float().mean() > 0.3
    ratios = (heights / widths)[single].log()
    assert ratios.abs().max() <= np.log(1 / 0.3) + 0.5
    assert ratios.mean() == pytest.approx(0, abs=0.12)


@pytest.mark.parametrize("wrong", [{"probability": 1.5}, {"share": (0.5, 0.1)}, {"share": (0.1, 1.2)}, {"aspect": 0.0}])
def test_settings_that_mask_nothing_sensible_are_refused(wrong) -> None:
    with pytest.raises(UserError, match=rf"^method\.masks\.{next(iter(wrong))} is "):
        BlockMasks(**wrong)
