"""A view as a row of numbers, drawn by counter from an augmentation.

Shape legend: B samples, C columns of a row.
"""

from copy import deepcopy
from enum import IntEnum
from itertools import permutations
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hardviews.views.augmentation import Augmentation, Interval
from hardviews.views.random import Purpose, uniform

Doubles = npt.NDArray[np.float64]
Rows = TypeVar("Rows", npt.NDArray[Any], Tensor)

_TRIES = 10


class Column(IntEnum):
    """The numbers of a view. Lengths are in pixels of the source image, and whole.

    FLIP, GRAY and SOLARISE are 0 or 1. BRIGHTNESS, CONTRAST and SATURATION are factors, of which 1 has no effect. HUE
    is a shift in turns of the colour circle. ORDER is the index in ORDERS of the order of these operations. SIGMA is
    the deviation of the blur in pixels of a view at its full size, 0 for none.
    """

    TOP = 0
    LEFT = 1
    HEIGHT = 2
    WIDTH = 3
    SOURCE_HEIGHT = 4
    SOURCE_WIDTH = 5
    FLIP = 6
    BRIGHTNESS = 7
    CONTRAST = 8
    SATURATION = 9
    HUE = 10
    ORDER = 11
    GRAY = 12
    SIGMA = 13
    SOLARISE = 14


class _Draw(IntEnum):
    """The uses of a view's uniform numbers; a new one goes to the end, so that no other moves."""

    AREA = 0
    RATIO = AREA + _TRIES
    TOP = RATIO + _TRIES
    LEFT = TOP + 1
    FLIP = LEFT + 1
    JITTER = FLIP + 1
    BRIGHTNESS = JITTER + 1
    CONTRAST = BRIGHTNESS + 1
    SATURATION = CONTRAST + 1
    HUE = SATURATION + 1
    ORDER = HUE + 1
    GRAY = ORDER + 1
    BLUR = GRAY + 1
    SIGMA = BLUR + 1
    SOLARISE = SIGMA + 1
    COUNT = SOLARISE + 1


ORDERS = tuple(permutations((Column.BRIGHTNESS, Column.CONTRAST, Column.SATURATION, Column.HUE)))


def draw(
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    position: npt.NDArray[Any],
    view: int,
    height: npt.NDArray[Any],
    width: npt.NDArray[Any],
) -> npt.NDArray[np.float32]:
    """Draw the rows of one view of every sample: position, source height, width (B,) to (B, C) float32.

    A row depends on seed, epoch, its own position and size, and the view number, not on the rest of the batch. Draw for
    whole batches: the cost is for each call, hardly for each row. Boxes follow torchvision's RandomResizedCrop: ten
    tries of an area and a ratio, else the largest central box of a permitted ratio; colours follow its ColorJitter.
    """
    u = uniform(seed, Purpose.VIEW, epoch, np.asarray(position, np.int64), view, _Draw.COUNT)
    jitter = augmentation.jitter
    rows = np.empty((len(u), len(Column)), np.float32)
    rows[:, Column.TOP : Column.WIDTH + 1] = _boxes(augmentation, u, np.asarray(height), np.asarray(width))
    rows[:, Column.SOURCE_HEIGHT], rows[:, Column.SOURCE_WIDTH] = height, width
    rows[:, Column.FLIP] = u[:, _Draw.FLIP] < augmentation.flip
    jittered = u[:, _Draw.JITTER] < jitter.probability
    for column, spread, number in (
        (Column.BRIGHTNESS, jitter.brightness, _Draw.BRIGHTNESS),
        (Column.CONTRAST, jitter.contrast, _Draw.CONTRAST),
        (Column.SATURATION, jitter.saturation, _Draw.SATURATION),
    ):
        factor = _between((max(0.0, 1 - spread), 1 + spread), u[:, number])
        rows[:, column] = np.where(jittered, factor, 1.0)
    rows[:, Column.HUE] = np.where(jittered, _between((-jitter.hue, jitter.hue), u[:, _Draw.HUE]), 0.0)
    rows[:, Column.ORDER] = np.where(jittered, np.floor(u[:, _Draw.ORDER] * len(ORDERS)), 0)
    rows[:, Column.GRAY] = u[:, _Draw.GRAY] < augmentation.grayscale
    blurred = u[:, _Draw.BLUR] < augmentation.blur
    rows[:, Column.SIGMA] = np.where(blurred, _between(augmentation.sigma, u[:, _Draw.SIGMA]), 0.0)
    rows[:, Column.SOLARISE] = u[:, _Draw.SOLARISE] < augmentation.solarise
    return rows


def geometry(rows: Rows) -> Rows:
    """Return rows (B, C) of the same crops and flips without jitter, grayscale, blur and solarisation."""
    plain = deepcopy(rows)
    plain[:, Column.BRIGHTNESS : Column.HUE] = 1
    plain[:, Column.HUE :] = 0
    return plain


def _boxes(augmentation: Augmentation, u: Doubles, height: Doubles, width: Doubles) -> Doubles:
    """Return top, left, height and width (B, 4) of the first try inside the image, else of the central box."""
    ratio_low, ratio_high = augmentation.ratio
    share = _between(augmentation.scale, u[:, _Draw.AREA : _Draw.AREA + _TRIES])
    logarithm = _between((np.log(ratio_low), np.log(ratio_high)), u[:, _Draw.RATIO : _Draw.RATIO + _TRIES])
    area, ratio = share * (height * width)[:, None], np.exp(logarithm)
    box_width, box_height = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    exist = (box_width > 0) & (box_height > 0)
    fits = exist & (box_width <= width[:, None]) & (box_height <= height[:, None])
    first = (np.arange(len(u)), fits.argmax(axis=1))
    found = fits[first]
    # np.clip keeps the whole length if the ratio of the image is permitted.
    h = np.where(found, box_height[first], np.clip(np.rint(width / ratio_low), 1, height))
    w = np.where(found, box_width[first], np.clip(np.rint(height * ratio_high), 1, width))
    top = np.where(found, np.floor(u[:, _Draw.TOP] * (height - h + 1)), (height - h) // 2)
    left = np.where(found, np.floor(u[:, _Draw.LEFT] * (width - w + 1)), (width - w) // 2)
    return np.stack([top, left, h, w], axis=1)


def _between(interval: Interval, u: Doubles) -> Doubles:
    low, high = interval
    return low + (high - low) * u
