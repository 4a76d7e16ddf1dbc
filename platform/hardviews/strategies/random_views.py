"""A control of HVS: the same candidates are drawn and rendered, and chance chooses among them.

What it trains on is distributed like the first views, so it must train like the method alone; a difference to HVS is
due to hardness.

Shape legend: B samples.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.strategies.candidates import Candidates, Choice, selected
from hardviews.views.plan import Plan
from hardviews.views.random import Purpose, uniform

if TYPE_CHECKING:
    from hardviews.objective import Objective


@dataclass(frozen=True)
class RandomViews(Candidates):
    """Chooses, image by image, an assignment of candidates at random; forwards nothing."""

    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: "Objective") -> list[Term]:
        """Return the batch of views chosen at random as the only term."""
        clock = batch.clock
        drawn_B = uniform(clock.seed, Purpose.CHOICE, clock.epoch, batch.position, 0, 1)[:, 0]
        choice_B = (drawn_B * len(table)).long().to(next(objective.parameters()).device)
        batch, _ = selected(plan, table, Choice(choice_B), batch)
        return [Term(batch)]
