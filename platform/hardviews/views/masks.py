"""The masked patches of a view: rectangles on the patch grid, as in iBOT and BEiT.

The rectangles are from Bao et al., "BEiT" (ICLR 2022), algorithm 1. The masked share is from Zhou et al., "iBOT" (ICLR
2022): nothing in half of the views, else a uniform share. A mask is a function of (seed, epoch, position, view number)
alone.

Shape legend: B samples, N patches.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from math import exp, log, sqrt

import numpy as np
import torch
from torch import Tensor

from hardviews.checked import above, interval, require, within
from hardviews.clock import Clock
from hardviews.views.random import Purpose, uniform

_TRIES = 10  # rectangles in a row that may fail to fit until a mask is finished
_DRAWN = 24  # number of rectangles that are drawn at a time
_STREAM = 24  # bits of a view number


@dataclass(frozen=True)
class BlockMasks:
    """The distribution of masks: their share of a view, and the shape of their rectangles.

    Attributes:
        probability: probability that a view has a mask.
        share: range of the largest share of masked patches in a masked view, drawn uniformly.
        aspect: most elongated rectangle: height over width lies between this and one over it, log-uniform.
    """

    probability: float = 0.5
    share: tuple[float, float] = (0.1, 0.5)
    aspect: float = 0.3

    def __post_init__(self) -> None:
        """Refuse shares and shapes that do not exist."""
        require(
            self,
            "method.masks",
            probability=within(0, 1),
            share=interval(within(0, 1)),
            aspect=above(0, at_most=1).note("height by width of the flattest rectangle"),
        )

    def draw(self, grid: tuple[int, int], clock: Clock, position: Tensor, number: int) -> Tensor:
        """Return masks (B, N) bool of the views of that number, row by row of a grid of height x width patches."""
        height, width = grid
        places = position.cpu().numpy()
        share_B2 = uniform(clock.seed, Purpose.MASK, clock.epoch, places, number, 2)
        low, high = self.share
        limit_B = np.where(share_B2[:, 0] < self.probability, low + (high - low) * share_B2[:, 1], 0) * height * width
        masked = np.flatnonzero(limit_B >= 1)
        size = (height * width + 7) // 8
        packed_BN = np.zeros((len(places), size), np.uint8)
        tables: list[list[list[list[float]]]] = []

        def numbers(i: int) -> Iterator[list[float]]:
            """Yield four random numbers for one rectangle after the other."""
            for part in count():
                if part == len(tables):
                    stream = number | part + 1 << _STREAM
                    drawn = uniform(clock.seed, Purpose.MASK, clock.epoch, places[masked], stream, 4 * _DRAWN)
                    tables.append(drawn.reshape(len(masked), _DRAWN, 4).tolist())
                yield from tables[part][i]

        for i, row in enumerate(masked):
            covered = self._cover(height, width, float(limit_B[row]), numbers(i))
            packed_BN[row] = np.frombuffer(covered.to_bytes(size, "little"), np.uint8)
        bits_BN = np.unpackbits(packed_BN, axis=1, count=height * width, bitorder="little")
        return torch.from_numpy(bits_BN.astype(bool))

    def _cover(self, height: int, width: int, limit: float, numbers: Iterator[list[float]]) -> int:
        """Return the patches under rectangles as bits of an integer, not more than `limit` of them.

        A rectangle is taken if it covers something new within the limit. Its least area is a third of the grid's
        shorter side, squared, unless a smaller area remains.
        """
        # Bit r * width + c is the patch of row r and column c. In a grid of 3 x 4, `column` is 0001_0001_0001. For a
        # rectangle of 2 x 2, `corner` is 0011 times 0001_0001, thus 0011_0011: the rectangle at the top left. At row 1
        # and column 2 it lies 4 * 1 + 2 bits higher: `block` is 1100_1100_0000.
        smallest, steepest = (min(height, width) // 3) ** 2, log(self.aspect)
        column = ((1 << width * height) - 1) // ((1 << width) - 1)  # the first patch of every row
        covered, failed = 0, 0
        while failed < _TRIES and (room := limit - covered.bit_count()) > 0:
            area, shape, down, right = next(numbers)
            area = smallest + (room - smallest) * area
            aspect = exp(steepest * (2 * shape - 1))
            h, w = round(sqrt(area * aspect)), round(sqrt(area / aspect))
            failed += 1
            if not (0 < h < height and 0 < w < width):
                continue
            top, left = int(down * (height - h + 1)), int(right * (width - w + 1))
            corner = ((1 << w) - 1) * (column & (1 << width * h) - 1)
            block = corner << width * top + left
            if 0 < (block & ~covered).bit_count() <= room:
                covered, failed = covered | block, 0
        return covered
