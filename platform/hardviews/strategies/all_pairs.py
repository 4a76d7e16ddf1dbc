"""A control of HVS: nothing is chosen, each image trains on all assignments of its candidates, averaged.

Every candidate is encoded once, with gradient, and every pair of candidates costs one loss. The state of the method
(queue, centre, bank) reads the views of the first assignment.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.strategies.candidates import Candidates
from hardviews.views.plan import Plan

if TYPE_CHECKING:
    from hardviews.objective import Objective


@dataclass(frozen=True)
class AllPairs(Candidates):
    """Averages the method's loss over all assignments of candidates to slots, or over those that `limit` draws."""

    @property
    def several(self) -> bool:
        """Return that a term trains on several views of a slot."""
        return True

    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: "Objective") -> list[Term]:
        """Return the batch with all candidates as the only term."""
        return [Term(batch, assignments=table)]
