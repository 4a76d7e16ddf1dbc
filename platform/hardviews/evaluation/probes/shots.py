"""Which labelled samples a few-shot evaluation trains on: a draw that depends on each sample alone.

A sample's place in its class is a hash of (seed, class, key). So the order of the dataset, its shards and the number of
processes change nothing, and k shots are among the first of k + 1.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hardviews.errors import UserError


def ranks(labels: Sequence[int], keys: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """Return each sample's place in the draw of its class, from 0.

    `labels`: the class of each sample. `keys`: its name, unique in its class.
    """
    places: dict[int, list[tuple[bytes, int]]] = {}
    for sample, (label, key) in enumerate(zip(labels, keys, strict=True)):
        digest = hashlib.sha256(f"{seed}\0{label}\0{key}".encode(errors="surrogateescape")).digest()
        places.setdefault(int(label), []).append((digest, sample))
    found = np.zeros(len(labels), np.int64)
    for members in places.values():
        for place, (_, sample) in enumerate(sorted(members)):
            found[sample] = place
    return found


def draw_shots(labels: Sequence[int], keys: Sequence[str], shots: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return the samples that are drawn, `shots` of each class that occurs, in ascending order.

    Raises:
        UserError: a class has fewer samples.
    """
    numbers, counts = np.unique(np.asarray(labels, np.int64), return_counts=True)
    if len(counts) and counts.min() < shots:
        least = int(counts.argmin())
        raise UserError(
            f"Class {numbers[least]} has only {counts[least]} images, and {shots} shots of each class are asked for. "
            "Ask for fewer shots, or pack more images of it."
        )
    return np.flatnonzero(ranks(labels, keys, seed) < shots)
