"""A hash of an image's appearance: equal or near for copies that were resized, re-encoded or slightly changed.

It holds the signs of the 64 lowest frequencies of the image at 32 x 32 grey pixels, against their median (the DCT hash
of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). Distances are numbers of bits.

Shape suffixes: N images, M others, H rows, W columns, C channels.
"""

import cv2
import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

_SIDE, _LOW = 32, 8
NEAR = 2
"""Bits by which two copies of an image may differ."""
_BLOCKS = ((0, 22), (22, 43), (43, 64))
"""Bits [first, last) of NEAR + 1 blocks: if two hashes differ in NEAR bits at most, one block is equal."""

Hashes = npt.NDArray[np.uint64]


def perceptual_hash(pixels_HWC: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Return the hash of an image of RGB pixels, and the hash of its mirror image."""
    grey_HW = cv2.cvtColor(pixels_HWC, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey_HW, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    low = dctn(small, norm="ortho")[:_LOW, :_LOW]
    mirrored = low.copy()
    mirrored[:, 1::2] *= -1  # a mirror image has the opposite sign in every odd horizontal frequency
    return _bits(low), _bits(mirrored)


def _bits(frequencies: npt.NDArray[np.float64]) -> int:
    flat = frequencies.reshape(-1)
    ahead = flat[1:] > np.median(flat[1:])  # the mean brightness does not count
    return int(np.packbits(np.concatenate(([False], ahead))).view(">u8")[0])


def near(first_N: Hashes, second_M: Hashes, distance: int = NEAR) -> npt.NDArray[np.bool_]:
    """Return which of the first hashes (N,) differ from one of the second in `distance` bits at most.

    Every pair with an equal block is compared; no other pair can be near.
    """
    if not 0 <= distance <= NEAR:
        raise ValueError(f"distance is {distance}; the blocks are laid out for {NEAR} at most")
    firsts, inverse_N = np.unique(first_N, return_inverse=True)
    seconds = np.unique(second_M)
    found = np.zeros(len(firsts), bool)
    for low, high in _BLOCKS:
        mask = np.uint64(((1 << (high - low)) - 1) << low)
        order = np.argsort(seconds & mask, kind="stable")
        keys = (seconds & mask)[order]
        begins, ends = (np.searchsorted(keys, firsts & mask, side=side) for side in ("left", "right"))
        for place in np.flatnonzero((ends > begins) & ~found):
            candidates = seconds[order[begins[place] : ends[place]]]
            found[place] = bool((np.bitwise_count(candidates ^ firsts[place]) <= distance).any())
    return found[inverse_N]
