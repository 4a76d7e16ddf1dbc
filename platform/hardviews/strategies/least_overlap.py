"""A control of HVS: the views that overlap least, read off their boxes without any forward pass.

Hard pairs overlap less (Ferreira et al., ICLR 2025, section 5). This asks how much of the gain overlap alone explains;
reviews of the paper say that such a policy helped SimSiam and not DINO.

Shape legend: A assignments, B samples.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.errors import UserError
from hardviews.strategies.candidates import Candidates, Choice, selected
from hardviews.views.overlap import overlaps
from hardviews.views.plan import Plan

if TYPE_CHECKING:
    from hardviews.objective import Objective


@dataclass(frozen=True)
class LeastOverlap(Candidates):
    """Chooses, image by image, the assignment with the least mean IoU over the method's pairs of two views."""

    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: "Objective") -> list[Term]:
        """Return the batch of the least overlapping views as the only term."""
        overlap_AB = overlaps(batch.views, plan.slots, objective.pairs, table)
        if overlap_AB is None:
            raise UserError(
                "LeastOverlap has nothing to compare: the method has a single global view, or its views have no boxes."
            )
        drawn = batch
        batch, _ = selected(plan, table, Choice(overlap_AB.argmin(0)), batch)
        if objective.method.unselected_state:
            batch = replace(batch, first=objective.first(drawn))
        return [Term(batch)]
