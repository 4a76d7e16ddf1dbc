"""A control of HVS: without a choice, each image trains on the average over all assignments of its candidates.

Every candidate is encoded once, with gradient, and every pair of candidates costs one loss. The state of the method
(queue, centre, bank) reads the views of the first assignment.
"""

from dataclasses import dataclass

from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.methods.method import Method
from hardviews.strategies.candidates import Candidates
from hardviews.strategies.passes import Passes, trained
from hardviews.strategies.scorer import Scorer
from hardviews.views.plan import Plan


@dataclass(frozen=True)
class AllPairs(Candidates):
    """Averages the method's loss over all assignments of candidates to slots, or over `limit` drawn ones."""

    several = True

    def looked(self, method: Method, plan: Plan) -> Passes:
        """Count training on every candidate."""
        return trained(method, plan)

    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch with all candidates as the only term."""
        return [Term(batch, assignments=table)]
