"""Random numbers as a pure function of (seed, purpose, epoch, position, stream), equal on every rank.

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), written once
with plain operators, so that numpy arrays and torch tensors (on any device) give the same bits.

Layout of a draw: the key is the 64-bit seed; the counter is (block of four words, position, stream,
purpose and epoch). Shape legend: B samples.
"""

from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.special  # type: ignore[import-untyped, unused-ignore]
import torch

Array = TypeVar("Array", npt.NDArray[Any], torch.Tensor)

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_EPOCH_BITS = 24


class Purpose(IntEnum):
    """The purpose of a draw: two purposes never share a number.

    The values are part of every recorded run, so append only.
    """

    VIEW = 0
    ORDER = 1
    PARTNER = 2
    BOX = 3
    WEIGHT = 4
    ATTACK = 5
    MASK = 6
    STEP = 7
    ASSIGNMENT = 8
    CHOICE = 9
    CLUSTER = 10
    SHUFFLE = 11
    MONITOR = 12


def philox(counter: Array, key: Array) -> Array:
    """Apply ten rounds of Philox4x32: counter (..., 4) and key (..., 2) to random words (..., 4).

    All are int64 holding unsigned 32-bit words; leading dimensions broadcast.
    """
    # Slices, not items: numpy warns of the overflow of a scalar, not of an array.
    c0, c1, c2, c3 = (counter[..., i : i + 1] for i in range(4))
    k0, k1 = key[..., 0:1], key[..., 1:2]
    for _ in range(_ROUNDS):
        # The product of two 32-bit words wraps into the sign of int64: the bits are right, and the mask that
        # follows the arithmetic shift drops the copies of the sign.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _LOW) ^ c1 ^ k0,
            product1 & _LOW,
            ((product0 >> 32) & _LOW) ^ c3 ^ k1,
            product0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return _concatenate([c0, c1, c2, c3])


def words(seed: int, purpose: Purpose, epoch: int, position: Array, stream: int | Array, n: int) -> Array:
    """Draw n random 32-bit words for each position: position (B,) to (B, n) int64 in [0, 2^32).

    `stream` is one number or (B,) of them, taken modulo 2^32; positions are below 2^32 and epochs below 2^24.
    """
    if not 0 <= epoch < 1 << _EPOCH_BITS:
        raise ValueError(f"epoch {epoch} is outside [0, 2^{_EPOCH_BITS})")
    blocks = -(-n // 4)
    block = _arange(position, blocks)[None, :, None]
    zero = position[:, None, None] * 0 + block * 0
    which = stream & _LOW if isinstance(stream, int) else (stream & _LOW)[:, None, None]
    counter = _concatenate(
        [
            zero + block,
            zero + (position & _LOW)[:, None, None],
            zero + which,
            zero + (int(purpose) << _EPOCH_BITS | epoch),
        ]
    )
    key = _concatenate([zero[:1, :1] + (seed & _LOW), zero[:1, :1] + ((seed >> 32) & _LOW)])
    drawn: Array = philox(counter, key).reshape(len(position), blocks * 4)[:, :n]
    return drawn


def uniform(seed: int, purpose: Purpose, epoch: int, position: Array, stream: int | Array, n: int) -> Array:
    """Draw n numbers in [0, 1) for each position: position (B,) to (B, n) float64 with 32 random bits.

    The result has the kind and the device of `position`; both kinds are equal bit for bit.
    """
    return _double(words(seed, purpose, epoch, position, stream, n)) * 2.0**-32


def uniform_like(
    pixels: torch.Tensor, seed: int, purpose: Purpose, epoch: int, position: torch.Tensor, stream: int
) -> torch.Tensor:
    """Draw a number in [0, 1) for every pixel: pixels (B, C, H, W) and position (B,) to (B, C, H, W) float32.

    It is made on the device of `pixels`, with 24 random bits, which float32 holds exactly. So 1.0 never occurs.
    """
    per_sample = pixels[0].numel()
    bits = words(seed, purpose, epoch, position.to(pixels.device, non_blocking=True), stream, per_sample) >> 8
    return (bits.to(torch.float32) * 2.0**-24).reshape(pixels.shape)


def permutation_in_groups(
    seed: int, purpose: Purpose, epoch: int, position: Array, group: int, stream: int = 0
) -> Array:
    """Permute randomly inside every group of positions: position (B,) to indices into the batch (B,) int64.

    The positions are whole groups of `group` consecutive ones, in any order. The partner of a position
    depends on its group alone: not on the batch, the rank, or the order of the samples in the batch. A
    sample may be its own partner.
    """
    by_position = _argsort(position).reshape(-1, group)
    draw = words(seed, purpose, epoch, position, stream, 1)[:, 0]
    # The order of the draws inside a group permutes the group's members, taken in order of position.
    shuffled = _argsort(draw[by_position])
    partner = position * 0
    rows = _arange(position, len(by_position))[:, None]
    partner[by_position] = by_position[rows, shuffled]
    return partner


def beta(seed: int, purpose: Purpose, epoch: int, position: Array, alpha: float, stream: int = 0) -> Array:
    """Draw from Beta(alpha, alpha) for each position, by the inverse distribution: (B,) to (B,) float64."""
    # The middle of each of the 2^32 steps: the inverse is degenerate at both ends.
    probability = uniform(seed, purpose, epoch, position, stream, 1)[:, 0] + 2.0**-33
    if isinstance(probability, torch.Tensor):
        drawn = scipy.special.betaincinv(alpha, alpha, probability.cpu().numpy())
        return torch.from_numpy(drawn).to(probability.device)
    inverse: npt.NDArray[Any] = scipy.special.betaincinv(alpha, alpha, probability)
    return inverse


def _concatenate(parts: list[Array]) -> Array:
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts, dim=-1)
    return np.concatenate(parts, axis=-1)


def _arange(like: Array, n: int) -> Array:
    return torch.arange(n, device=like.device) if isinstance(like, torch.Tensor) else np.arange(n)


def _argsort(values: Array) -> Array:
    if isinstance(values, torch.Tensor):
        return torch.argsort(values, dim=-1, stable=True)
    return np.argsort(values, axis=-1, kind="stable")


def _double(values: Array) -> Array:
    return values.double() if isinstance(values, torch.Tensor) else values.astype(np.float64)
