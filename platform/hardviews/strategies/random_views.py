"""A control of HVS: the same candidates are drawn and rendered, and the choice is random.

Its views have the distribution of the first views, so it must train like the method alone. A difference to HVS is due
to hardness.

Shape legend: B samples.
"""

from dataclasses import dataclass

from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.methods.method import Method
from hardviews.strategies.candidates import Candidates, Choice, selected
from hardviews.strategies.passes import Passes, trained
from hardviews.strategies.scorer import Scorer
from hardviews.views.plan import Plan
from hardviews.views.random import Purpose, uniform


@dataclass(frozen=True)
class RandomViews(Candidates):
    """Chooses, image by image, an assignment of candidates at random; needs no forward pass."""

    def looked(self, method: Method, plan: Plan) -> Passes:
        """Count the method's own passes: the choice needs none."""
        return trained(method, method.plan())

    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch of views chosen at random as the only term."""
        clock = batch.clock
        drawn_B = uniform(clock.seed, Purpose.CHOICE, clock.epoch, batch.position, 0, 1)[:, 0]
        choice_B = (drawn_B * len(table)).long().to(objective.device, non_blocking=True)
        return [Term(selected(plan, table, Choice(choice_B, random=True), batch, objective))]
