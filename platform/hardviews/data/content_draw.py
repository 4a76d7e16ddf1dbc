"""Draws of images by a hash of seed and content: neither their order nor the shards matter, and copies draw alike."""

import hashlib
from typing import Literal

import numpy as np

Purpose = Literal["held out", "labelled"]

# Without words of its own each purpose would draw the same images: those with labels would be those held out.
_WORDS: dict[Purpose, str] = {"held out": "", "labelled": "label "}


def lot(purpose: Purpose, seed: int, row: np.void) -> bytes:
    """Return the lot of an image, given its row in an index: a draw takes the images of the lowest lots."""
    return hashed(seed, f"{_WORDS[purpose]}{row['crc32']} {row['size']}")


def hashed(seed: int, text: str) -> bytes:
    """Return eight bytes that a seed and a text decide."""
    return hashlib.blake2b(f"{seed} {text}".encode(), digest_size=8).digest()
