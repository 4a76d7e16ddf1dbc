"""Draws of images by a hash of seed and content: order and shards do not matter, and copies draw the same number."""

import hashlib
from typing import Literal

import numpy as np

Purpose = Literal["held out", "labelled"]

# Each purpose adds its own word: otherwise all would draw the same images, and labelled images would be held out too.
_WORDS: dict[Purpose, str] = {"held out": "", "labelled": "label "}


def lot(purpose: Purpose, seed: int, row: np.void) -> bytes:
    """Return the number that an image draws, given its row in an index; the lowest numbers win."""
    return hashed(seed, f"{_WORDS[purpose]}{row['crc32']} {row['size']}")


def hashed(seed: int, text: str) -> bytes:
    """Return eight bytes that depend on a seed and a text alone."""
    return hashlib.blake2b(f"{seed} {text}".encode(), digest_size=8).digest()
