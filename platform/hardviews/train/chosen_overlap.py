"""How the views that a selection chose overlap, against those that it passed over.

The paper's mechanism (Ferreira et al. 2025, section 5): hard pairs overlap less, and the hardest pair is the least
overlapping one more often than chance.

Shape legend: A assignments, B samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hardviews.batch import Selection
from hardviews.views.overlap import overlaps
from hardviews.views.plan import Pair

_ROUNDING = 1e-6  # of a mean over pairs, summed in another order


@dataclass(frozen=True, eq=False)
class Overlap:
    """Intersection over union of the chosen assignment (B,), the mean over those passed over (B,), whether the chosen
    one is the least overlapping (B,), and the chance of that (B,).

    Where pairs are ordered (MoCo), two assignments overlap alike: as many as are least count, for the chance too.
    """

    chosen: Tensor
    passed_over: Tensor
    least: Tensor
    chance: Tensor


def overlap(selection: Selection, pairs: Sequence[Pair]) -> Overlap | None:
    """Measure a selection, by the mean over the method's pairs of two views; None where it recorded no boxes, or no
    assignments that it passed over.
    """
    if not selection.shared or any(view.rows is None for view in selection.views.values()):
        return None
    overlap_AB = overlaps(selection.views, selection.slots, pairs, selection.table)
    if overlap_AB is None:
        return None
    chosen_B = overlap_AB.gather(0, selection.choice[None]).squeeze(0)
    others = max(1, len(overlap_AB) - 1)
    passed_B = (overlap_AB.sum(0) - chosen_B) / others
    least_AB = overlap_AB <= overlap_AB.amin(0) + _ROUNDING
    return Overlap(chosen_B, passed_B, least_AB.gather(0, selection.choice[None]).squeeze(0), least_AB.float().mean(0))
