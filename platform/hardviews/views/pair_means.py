"""Comparison of the views of an assignment: means of a measure over its pairs of two views, from their rows.

Shape legend: A assignments, B samples, S slots, Q pairs of candidates, M measures, C columns of a row.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardviews.views.geometry import iou
from hardviews.views.plan import Pair, Slot, candidate_pairs

if TYPE_CHECKING:
    from hardviews.batch import View

#: Compares two views of every sample: rows (B, C) twice to (B,).
Measure = Callable[[Tensor, Tensor], Tensor]


def overlaps(
    views: Mapping[Slot, "View"], slots: Sequence[Slot], pairs: Sequence[Pair], table: Tensor
) -> Tensor | None:
    """Return the mean intersection over union (A, B) of assignments (A, S); None as `pair_means` does."""
    means = pair_means(views, slots, pairs, table, [iou])
    return None if means is None else means[0]


def pair_means(
    views: Mapping[Slot, "View"],
    slots: Sequence[Slot],
    pairs: Sequence[Pair],
    table: Tensor,
    measures: Sequence[Measure],
) -> Tensor | None:
    """Return the means (M, A, B) of measures over the method's pairs of two views, for assignments (A, S).

    If the method has no pair of two views, because its targets come from a table, all pairs of global views count.
    Return None if there are no two global views, or if a view has no row.
    """
    place = set(slots)
    joined = [
        tuple(sorted((p.online, p.target))) for p in pairs if p.online != p.target and {p.online, p.target} <= place
    ]
    joined = joined or list(combinations([slot for slot in slots if views[slot].target], 2))
    if not joined:
        return None
    found, within_AP = candidate_pairs(slots, [Pair(a, b, 1.0) for a, b in joined], table)
    known = []
    for pair in found:
        a, b = views[pair.online].rows, views[pair.target].rows
        if a is None or b is None:
            return None
        known.append(torch.stack([measure(a, b) for measure in measures]))
    known_MQB = torch.stack(known, dim=1)
    total_MAB = known_MQB.new_zeros(len(measures), len(table), known_MQB.shape[2])
    for row_A in within_AP.T.to(known_MQB.device, non_blocking=True):
        total_MAB = total_MAB + known_MQB[:, row_A]
    return total_MAB / len(joined)
