"""A control of HVS: the views that overlap least, computed from their boxes without any forward pass.

Hard pairs overlap less (Ferreira et al., ICLR 2025, section 5). This control measures the part of the gain that overlap
alone explains. According to the paper's reviews, such a policy helped SimSiam, but not DINO.

Shape legend: A assignments, B samples.
"""

from dataclasses import dataclass

from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.errors import UserError
from hardviews.methods.method import Method
from hardviews.strategies.candidates import ONE_VIEW, Candidates, Choice, selected
from hardviews.strategies.passes import Passes, trained, unselected
from hardviews.strategies.scorer import Scorer
from hardviews.views.pair_features import global_pairs
from hardviews.views.pair_means import overlaps
from hardviews.views.plan import Plan


@dataclass(frozen=True)
class LeastOverlap(Candidates):
    """Chooses, image by image, the assignment with the least mean IoU over the method's pairs of two views."""

    def refuses(self, method: Method) -> str | None:
        """Refuse a method with a single global view."""
        if not global_pairs(method.plan(), method.pairs()):
            return ONE_VIEW
        return super().refuses(method)

    def looked(self, method: Method, plan: Plan) -> Passes:
        """Count the method's own passes, and the first views if its state reads these."""
        return trained(method, method.plan()) + unselected(method, plan, {pool.name for pool in plan.pools})

    def guesses(self, plan: Plan) -> bool:
        """Return true: boxes are not the loss."""
        return True

    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch of the least overlapping views as the only term."""
        overlap_AB = overlaps(batch.views, plan.slots, objective.pairs, table)
        if overlap_AB is None:
            raise UserError("LeastOverlap has nothing to compare: the views have no boxes.")
        return [Term(selected(plan, table, Choice(overlap_AB.argmin(0), scores=-overlap_AB), batch, objective))]
