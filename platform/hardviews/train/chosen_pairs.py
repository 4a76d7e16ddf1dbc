"""The difference between the pairs of views that a selection chose and the other pairs.

The paper's mechanism (Ferreira et al. 2025, section 5): hard pairs overlap less, and the hardest pair is the least
overlapping one more often than chance. Hard pairs also lie further apart and differ more in their colours.

Shape legend: A assignments, B samples, M measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hardviews.batch import Selection
from hardviews.views.geometry import centre_distance, colour_distance, iou
from hardviews.views.pair_means import pair_means
from hardviews.views.plan import Pair

_ROUNDING = 1e-6  # rounding of a mean over pairs that is summed in another order


@dataclass(frozen=True, eq=False)
class Contrast:
    """A measure of the chosen assignment (B,), and its mean over the assignments that were passed over (B,)."""

    chosen: Tensor
    passed_over: Tensor


@dataclass(frozen=True, eq=False)
class ChosenPairs:
    """Overlap (intersection over union) and distances of the chosen pairs and of the others.

    `least` (B,) is true if the hardest assignment is the least overlapping one; it is None if no loss was scored.
    `chance` (B,) is the probability of that. If pairs are ordered (MoCo), two assignments overlap equally. Then all
    assignments with the least overlap count, also for the chance.
    """

    overlap: Contrast
    centre_distance: Contrast
    colour_distance: Contrast
    least: Tensor | None
    chance: Tensor


def chosen_pairs(selection: Selection, pairs: Sequence[Pair]) -> ChosenPairs | None:
    """Measure a selection, by the mean over the method's pairs of two views.

    Return None if the selection did not record the rows of its views, or had no other assignments.
    """
    if not selection.shared or any(view.rows is None for view in selection.views.values()):
        return None
    measures = [iou, centre_distance, colour_distance]
    means_MAB = pair_means(selection.views, selection.slots, pairs, selection.table, measures)
    if means_MAB is None:
        return None
    overlap, centre, colour = (_contrast(means_AB, selection.choice) for means_AB in means_MAB)
    least_AB = means_MAB[0] <= means_MAB[0].amin(0) + _ROUNDING
    hardness_AB = selection.hardness
    least_B = None if hardness_AB is None else least_AB.gather(0, hardness_AB.argmax(0)[None]).squeeze(0)
    return ChosenPairs(overlap, centre, colour, least_B, least_AB.float().mean(0))


def _contrast(means_AB: Tensor, choice_B: Tensor) -> Contrast:
    chosen_B = means_AB.gather(0, choice_B[None]).squeeze(0)
    return Contrast(chosen_B, (means_AB.sum(0) - chosen_B) / max(1, len(means_AB) - 1))
