"""How the views that a selection chose overlap, against those that it passed over.

The paper's mechanism (Ferreira et al. 2025, section 5): hard pairs overlap less, and the hardest pair is the least
overlapping one more often than chance.

Shape legend: A assignments, S slots, B samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hardviews.batch import Selection
from hardviews.views.geometry import iou
from hardviews.views.plan import Pair, Slot


@dataclass(frozen=True, eq=False)
class Overlap:
    """Intersection over union of the chosen assignment (B,), the mean over those passed over (B,), whether the chosen
    one is the least overlapping (B,), and the chance of that.
    """

    chosen: Tensor
    passed_over: Tensor
    least: Tensor
    chance: float


def overlap(selection: Selection, pairs: Sequence[Pair]) -> Overlap | None:
    """Measure a selection, by the mean over the method's pairs of two views; None where it recorded no boxes."""
    place = {slot: i for i, slot in enumerate(selection.slots)}
    joined = [(p.online, p.target) for p in pairs if p.online != p.target and p.online in place and p.target in place]
    rows = {slot: view.rows for slot, view in selection.views.items() if view.rows is not None}
    if not joined or len(rows) < len(selection.views):
        return None
    known: dict[tuple[Slot, Slot], Tensor] = {}
    overlaps = []
    for assignment in selection.table.tolist():
        total: Tensor | float = 0.0
        for pair in joined:
            a, b = sorted(Slot(slot.pool, assignment[place[slot]]) for slot in pair)
            if (a, b) not in known:
                known[a, b] = iou(rows[a], rows[b])
            total = total + known[a, b]
        overlaps.append(torch.as_tensor(total) / len(joined))
    overlap_AB = torch.stack(overlaps)
    chosen_B = overlap_AB.gather(0, selection.choice[None]).squeeze(0)
    others = max(1, len(overlap_AB) - 1)
    passed_B = (overlap_AB.sum(0) - chosen_B) / others
    return Overlap(chosen_B, passed_B, overlap_AB.argmin(0) == selection.choice, 1 / len(overlap_AB))
