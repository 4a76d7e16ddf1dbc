"""The part of a training set on which a protocol chooses its settings, so that the test set never does.

Shape suffixes: N samples.
"""

import torch
from torch import Tensor

from hardviews.data.content_draw import lot
from hardviews.data.index import Index

SHARE = 0.1
MOST = 10_000
"""Samples that are held out at most, unless that were fewer than `LEAST_OF_EACH` of each class."""
LEAST_OF_EACH = 10


def held_out(index: Index, seed: int = 0, share: float = SHARE) -> Tensor:
    """Return which samples are held out, a mask (N,): of every class the same share, of large sets ten a class.

    Images that may have several classes are taken together, as if they were of one. The samples of a class with the
    lowest hashes of (seed, content) are taken. So neither the order of the samples nor
    the number of shards or processes matters, and copies of an image are on one side. A class of one sample keeps it.
    """
    labels_N = torch.from_numpy(index.labels)
    classes = 1 if index.multi_label else max(1, len(index.classes))
    most = max(LEAST_OF_EACH, MOST // classes)
    rank = [lot("held out", seed, row) for row in index.samples]
    mask_N = torch.zeros(len(index), dtype=torch.bool)
    by_class: dict[int, list[int]] = {}
    for place, label in enumerate(labels_N.tolist()):
        by_class.setdefault(label, []).append(place)
    for places in by_class.values():
        places.sort(key=lambda place: (rank[place], place))
        count = min(max(1, round(share * len(places))), most, len(places) - 1)
        # Copies of the last one that is taken are taken too, unless nothing were left.
        while 0 < count < len(places) - 1 and rank[places[count]] == rank[places[count - 1]]:
            count += 1
        mask_N[places[:count]] = True
    return mask_N


def names_of(index: Index) -> list[str]:
    """Return a name for the content of each sample: its checksum and size."""
    return [f"{row['crc32']:08x}-{row['size']}" for row in index.samples]
