"""Hard views for free: the loss of an assignment is predicted from the parameters of its views, before rendering.

It is the strongest control of HVS that does not use the image: it measures the part of hardness that depends on the
draw of the views alone. `LeastOverlap` uses one such number. This control uses 29 (`views/pair_features.py`), and
learns their weights from the losses of the trained views.

Shape legend: A assignments, B samples, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.checked import above, at_least, require
from hardviews.clock import Clock
from hardviews.errors import UserError
from hardviews.methods.method import Method
from hardviews.strategies.candidates import ONE_VIEW, Candidates, Choice, selected
from hardviews.strategies.passes import Passes, trained, unselected
from hardviews.strategies.scorer import Scorer
from hardviews.strategies.scout import Scout
from hardviews.views.pair_features import FEATURES, global_pairs, pair_features
from hardviews.views.plan import Plan


@dataclass(frozen=True)
class PredictedViews(Candidates):
    """Chooses, image by image, the assignment with the highest predicted loss; needs no forward pass.

    Attributes:
        candidates: number of views drawn for all global slots together (the paper's N).
        local_candidates: number of views drawn for each pool of local slots: as many as its slots, since none is
            chosen.
        limit: most assignments in a step, drawn again in each step.
        every: choose only in every n-th step; other steps train on the first views.
        audit: in every n-th of these steps compare the choice with exact scores; 0 for never.
        decay: share of the earlier sums that a step keeps.
        ridge: penalty on the squared weights of the regression, in units of a feature's variance.
        warm_up: number of first steps that train on the first views, while it learns.
    """

    decay: float = 0.98
    ridge: float = 0.01
    warm_up: int = 10

    def __post_init__(self) -> None:
        """Refuse settings without learning."""
        super().__post_init__()
        require(self, decay=above(0, at_most=1), ridge=above(0), warm_up=at_least(1))

    def scout(self) -> Scout:
        """Return the regression in its initial state."""
        return Scout(len(FEATURES), self.decay, self.ridge, self.warm_up)

    def refuses(self, method: Method) -> str | None:
        """Refuse a method with a single global view, and local candidates."""
        if self.local_candidates is not None:
            return "it chooses global views alone: leave local_candidates out."
        if not global_pairs(method.plan(), method.pairs()):
            return ONE_VIEW
        return super().refuses(method)

    def looked(self, method: Method, plan: Plan) -> Passes:
        """Count the method's own passes, and the first views if its state reads these."""
        return trained(method, method.plan()) + unselected(method, plan, {pool.name for pool in plan.pools})

    def guesses(self, plan: Plan) -> bool:
        """Return true: parameters are not the loss."""
        return True

    def guessing(self, clock: Clock) -> bool:
        """Return false while it learns from the first views."""
        return clock.step >= self.warm_up

    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch of the views with the highest predicted loss as the only term."""
        scout = objective.scout
        assert scout is not None
        features_ABF = pair_features(batch.views, plan.slots, global_pairs(plan, objective.pairs), table)
        if features_ABF is None:
            raise UserError("PredictedViews has nothing to read: the views have no parameters.")
        predicted_AB = scout.predict(features_ABF)
        choice_B = torch.where(scout.ready, predicted_AB.argmax(0), 0)
        return [Term(selected(plan, table, Choice(choice_B, scores=predicted_AB), batch, objective))]
