"""HVS: train each image on the views that the model being trained finds hardest.

Ferreira et al., "Beyond Random Augmentations: Pretraining with Hard Views" (ICLR 2025), section 3. Every
candidate is forwarded once without gradient, every admissible assignment of candidates to slots is scored by
the method's own loss per sample, and the step trains on the worst one of each image.

Differs from the published SimSiam code on purpose: candidates are normalised view by view, as in training,
and scoring moves no running statistics. Both are settings.

Shape legend: A assignments, S slots, B samples.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.checked import at_least, require
from hardviews.errors import UserError
from hardviews.methods.method import Method
from hardviews.models.batchnorm import has_batchnorm
from hardviews.models.resolution import fails, why_not
from hardviews.strategies.best_locals import best_locals, covering, separable
from hardviews.strategies.candidates import Candidates, Choice, selected
from hardviews.strategies.passes import Passes, area, has_target_network, sides, trained, unselected
from hardviews.strategies.scorer import Scorer
from hardviews.views.plan import Plan, candidate_pairs


@dataclass(frozen=True)
class HardViews(Candidates):
    """Chooses, image by image, the assignment of candidates with the highest loss.

    Attributes:
        candidates: views drawn for all global slots together (the paper's N).
        local_candidates: views drawn for each pool of local slots, by default no more than its slots.
        limit: at most so many assignments a step, drawn anew each step (DINO: 64 or 128).
        every: select in every so manieth step only, else train on the first views.
        audit: in every so manieth of these steps compare the choice with exact scores, if it was made by anything else;
            0 for never.
        size: resolution for scoring, where a view's own is larger.
        choose: the hardest, or as a control the easiest.
        normalise: BatchNorm while scoring: view by view as in training, or all candidates of one size together
            (the published codes of SimSiam and SimCLR).
        move_statistics: whether scoring moves BatchNorm's running statistics (the published codes: it does).
        best_locals: for every choice of global views take those local views that are hardest under it, of all there
            are. The exact maximum, in place of a `limit` of random choices; harder than the paper's.
    """

    size: int | None = None
    choose: Literal["hardest", "easiest"] = "hardest"
    normalise: Literal["view", "together"] = "view"
    move_statistics: bool = False
    best_locals: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that score nothing."""
        super().__post_init__()
        require(self, size=at_least(1).or_none())
        if self.best_locals and self.limit is not None:
            raise UserError(f"HardViews has best_locals, which looks at all choices, and limit={self.limit}: drop one.")

    def refuses(self, method: Method) -> str | None:
        """Refuse a size that the network cannot take, and BatchNorm that cannot be had."""
        sizes = [pool.augmentation.size for pool in method.plan().pools]
        larger = [own for own in sizes if own > (self.size or math.inf)]
        if self.size is not None and larger:
            reason = why_not(method, self.size)
            if reason is not None:
                return f"at size={self.size} {reason}"
            error = fails(method.backbone, self.size, larger[0])
            if error is not None:
                return (
                    f"at size={self.size} the network cannot look at a view ({error}): choose a larger size, or leave "
                    "it out to score views at their own."
                )
        if self.normalise == "together" and not method.joins_views and has_batchnorm(method):
            return (
                "its candidates cannot be normalised together, since it encodes every view by itself. Score them with "
                'normalise="view", as it trains.'
            )
        if self.best_locals and not separable(method.plan(), method.pairs()):
            return (
                "best_locals needs local views that only predict targets of global views, in slots that are all alike. "
                "Set limit instead."
            )
        return super().refuses(method)

    def looked(self, method: Method, plan: Plan) -> Passes:
        """Count scoring every candidate, less the targets that training need not make again."""
        online, target = sides(method, plan)
        separate = target if has_target_network(method) else target - online
        passes = trained(method, method.plan())
        passes += Passes(area(plan, online, self.size) + area(plan, separate, self.size))
        shrunk = {pool.name for pool in plan.pools if self.size is not None and self.size < pool.augmentation.size}
        if method.rowwise_targets and separate:
            passes += Passes(-area(plan, [slot for slot in sides(method, method.plan())[1] if slot.pool not in shrunk]))
        return passes + unselected(method, plan, shrunk)

    def guesses(self, plan: Plan) -> bool:
        """Return whether it scores smaller views or another loss, to find the hardest."""
        smaller = any((self.size or math.inf) < pool.augmentation.size for pool in plan.pools)
        return self.choose == "hardest" and smaller

    @property
    def remedy(self) -> str:
        """What to do if guesses are poor, as a sentence."""
        return f"Raise size (now {self.size}), or candidates (now {self.candidates})."

    def listed(self, plan: Plan) -> Plan:
        """Return the plan whose assignments are listed: of global views alone where local ones are found by sorting."""
        if not self.best_locals:
            return plan
        return plan.with_candidates({pool.name: pool.slots for pool in plan.pools if not pool.target})

    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch of the hardest views as the only term."""
        together, hardest = self.normalise == "together", self.choose == "hardest"
        if self.best_locals:
            found, _ = candidate_pairs(plan.slots, objective.pairs, covering(plan, table))
            losses_QB = objective.score_pairs(
                batch, found, self.size, together=together, move_statistics=self.move_statistics
            )
            losses = dict(zip(found, losses_QB, strict=True))
            table = best_locals(plan, objective.pairs, table, losses, hardest)
            found, within_AP = candidate_pairs(plan.slots, objective.pairs, table)
            hardness_AB = objective.reduce(torch.stack([losses[pair] for pair in found]), within_AP)
        else:
            hardness_AB = objective.score(
                batch, table, self.size, together=together, move_statistics=self.move_statistics
            )
        choice_B = (hardness_AB if hardest else -hardness_AB).argmax(0)
        choice = Choice(choice_B, hardness_AB, not self.best_locals)
        return [Term(selected(plan, table, choice, batch, objective))]
