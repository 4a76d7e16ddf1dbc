"""How the views of an assignment overlap: the mean IoU of the boxes that its pairs join.

Shape legend: A assignments, B samples, S slots, Q pairs of candidates.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardviews.views.geometry import iou
from hardviews.views.plan import Pair, Slot, candidate_pairs

if TYPE_CHECKING:
    from hardviews.batch import View


def overlaps(
    views: Mapping[Slot, "View"], slots: Sequence[Slot], pairs: Sequence[Pair], table: Tensor
) -> Tensor | None:
    """Return the overlap (A, B) of assignments (A, S): the mean over the method's pairs of two views.

    Where the method joins no two views (its targets come from a table), all two global views count. None where there
    are no two, or where a view has no box.
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
        known.append(iou(a, b))
    known_QB = torch.stack(known)
    total_AB = known_QB.new_zeros(len(table), known_QB.shape[1])
    for row_A in within_AP.T.to(known_QB.device):
        total_AB = total_AB + known_QB[row_A]
    return total_AB / len(joined)
