"""HVS: train each image on the views that the model being trained finds hardest.

Ferreira et al., "Beyond Random Augmentations: Pretraining with Hard Views" (ICLR 2025), section 3. Every
candidate is forwarded once without gradient, every admissible assignment of candidates to slots is scored by
the method's own loss per sample, and the step trains on the worst one of each image.

Differs from the published SimSiam code on purpose: candidates are normalised view by view, as in training,
and scoring moves no running statistics.

Shape legend: A assignments, S slots, B samples.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from hardviews.batch import Batch, Selection, Term, pick_rows
from hardviews.errors import UserError
from hardviews.methods.method import map_tensors
from hardviews.strategies.strategy import Stage, Strategy
from hardviews.views.plan import Plan, Slot

if TYPE_CHECKING:
    from hardviews.objective import Objective


@dataclass(frozen=True)
class HardViews(Strategy):
    """Chooses, image by image, the assignment of candidates with the highest loss.

    Attributes:
        candidates: views drawn for all global slots together (the paper's N).
        local_candidates: views drawn for each pool of local slots, by default no more than its slots.
        limit: at most so many assignments a step, drawn anew each step (DINO: 64 or 128).
        size: resolution for scoring, where a view's own is larger.
        every: select in every so manieth step only, else train on the first views.
        choose: the hardest, or as a control the easiest.
    """

    candidates: int = 4
    local_candidates: int | None = None
    limit: int | None = None
    size: int | None = None
    every: int = 1
    choose: Literal["hardest", "easiest"] = "hardest"

    def __post_init__(self) -> None:
        """Refuse counts that select nothing."""
        if self.every < 1 or (self.limit is not None and self.limit < 1):
            raise UserError(f"HardViews has every={self.every} and limit={self.limit}; both must be 1 or more.")

    @property
    def stages(self) -> frozenset[Stage]:
        """Return that this selects."""
        return frozenset({Stage.SELECT})

    def plan(self, plan: Plan) -> Plan:
        """Ask for candidates, shared among the pools of global slots in proportion to their slots."""
        slots = sum(pool.slots for pool in plan.pools if pool.target)
        if self.candidates % slots or self.candidates < slots:
            raise UserError(
                f"HardViews asks for {self.candidates} candidates, but the method has {slots} global slots, "
                f"each of which needs as many: choose a multiple of {slots}."
            )
        asked = {pool.name: pool.slots * self.candidates // slots for pool in plan.pools if pool.target}
        if self.local_candidates is not None:
            asked.update({pool.name: self.local_candidates for pool in plan.pools if not pool.target})
        return plan.with_candidates(asked)

    def __call__(self, batch: Batch, objective: "Objective") -> list[Term]:
        """Return the batch of the selected views as the only term."""
        # Its own candidates: another part of a sum may ask for more of them.
        plan = self.plan(objective.method.plan())
        total = plan.count(objective.pairs)
        if total == 1 or batch.clock.step % self.every:
            return [Term(replace(batch, views={slot: batch.views[slot] for slot in plan.slots}))]
        table_AS = plan.assignments(objective.pairs, self._drawn(total, batch))
        hardness_AB, encoded = objective.score(batch, table_AS, self.size)
        choice_B = (hardness_AB if self.choose == "hardest" else -hardness_AB).argmax(0)
        views, targets = {}, {}
        for s, slot in enumerate(plan.slots):
            candidates = [Slot(slot.pool, k) for k in range(plan.pool(slot.pool).candidates)]
            pick_B = table_AS.to(choice_B.device)[choice_B, s]
            views[slot] = batch.views[slot].pick([batch.views[c] for c in candidates], pick_B)
            made = [encoded.target[c] for c in candidates if c in encoded.target]
            if objective.method.rowwise_targets and self.size is None and len(made) == len(candidates):
                targets[slot] = map_tensors(lambda *t, pick=pick_B: pick_rows(t, pick), *made)
        drawn = {slot: batch.views[slot] for slot in plan.candidates}
        selection = Selection(plan.slots, table_AS, hardness_AB, choice_B, drawn)
        first = {}
        if objective.method.unselected_state:
            first = objective.first(batch) if self.size else {slot: encoded.online[slot] for slot in plan.slots}
        return [Term(replace(batch, views=views, targets=targets, first=first, selection=selection))]

    def _drawn(self, total: int, batch: Batch) -> list[int] | None:
        """Draw the assignments of this step, the same on every rank; None for all of them."""
        if self.limit is None or self.limit >= total:
            return None
        generator = np.random.Generator(np.random.Philox(key=[batch.clock.seed, batch.clock.step]))
        return sorted(int(rank) for rank in generator.choice(total, self.limit, replace=False))
