"""HVS: train each image on the views with the highest loss under the model itself.

Ferreira et al., "Beyond Random Augmentations: Pretraining with Hard Views" (ICLR 2025), section 3. Every
candidate is forwarded once without gradient, every admissible assignment of candidates to slots is scored by
the method's own loss per sample, and the step trains on the worst one of each image.

There are two intended differences to the published SimSiam code: candidates are normalised view by view, as in
training, and scoring does not move running statistics. Both are settings.

Shape legend: A assignments, S slots, B samples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hardviews.batch import Batch, Term
from hardviews.checked import added, at_least, require
from hardviews.errors import UserError
from hardviews.methods.method import Method
from hardviews.models.batchnorm import has_batchnorm
from hardviews.models.noise import is_noisy
from hardviews.models.resolution import fails, too_coarse, why_not
from hardviews.strategies.best_locals import best_locals, covering, separable
from hardviews.strategies.candidates import Candidates, Choice, first_views, selected
from hardviews.strategies.kinds import unknown_kinds
from hardviews.strategies.look import Look
from hardviews.strategies.passes import Passes, chooses, has_target_network, load, sides, trained, unselected
from hardviews.strategies.scorer import Scorer
from hardviews.views.plan import Pair, Plan, Slot, candidate_pairs, of_kinds


@dataclass(frozen=True)
class HardViews(Candidates):
    """Chooses, image by image, the assignment of candidates with the highest loss.

    Attributes:
        candidates: number of views drawn for all global slots together (the paper's N).
        local_candidates: number of views drawn for each pool of local slots, by default as many as its slots.
        limit: most assignments in a step, drawn again in each step (DINO: 64 or 128).
        every: select only in every n-th step; other steps train on the first views.
        audit: in every n-th of these steps compare the choice with exact scores, if it was made in another way; 0 for
            never.
        size: resolution for scoring, if a view's own is larger.
        choose: choice of the hardest views, or as a control of the easiest.
        normalise: BatchNorm during scoring: view by view as in training, or all candidates of one size together
            (published codes of SimSiam and SimCLR).
        move_statistics: whether scoring moves BatchNorm's running statistics (published codes: yes).
        noise: stochastic depth and dropout of views without a rival, such as DINO's small views. It is drawn again for
            scoring as in the published codes, or taken from training, which saves a pass.
        score: the method's whole loss, or with `"targets"` only the part in which views without a rival predict the
            targets of candidates. If a second network makes the targets, the trained network then does not encode
            candidates.
        colours: whether candidates are scored with their colours, or only cropped and flipped; training always uses
            colours.
        best_locals: for every choice of global views take the hardest of all local views. This is the exact maximum in
            place of a `limit` of random choices, and harder than the paper's.
        kinds: parts of a sum of methods ("0"), or kinds of pairs ("0/class"), whose loss is scored; training adds all.
    """

    size: int | None = None
    choose: Literal["hardest", "easiest"] = "hardest"
    normalise: Literal["view", "together"] = "view"
    move_statistics: bool = False
    noise: Literal["own", "training"] = added("own")
    score: Literal["loss", "targets"] = added("loss")
    colours: bool = added(True)
    best_locals: bool = False
    kinds: tuple[str, ...] | None = added(None)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        super().__post_init__()
        require(self, size=at_least(1).or_none())
        if self.best_locals and self.limit is not None:
            raise UserError(f"HardViews has best_locals, which looks at all choices, and limit={self.limit}: drop one.")
        if self.best_locals and self.kinds is not None:
            raise UserError("HardViews has best_locals, which reads the whole loss, and kinds: drop one.")
        if self.best_locals and self.score == "targets":
            raise UserError(
                'HardViews has best_locals, which chooses local views, and score="targets", which reads local views '
                "without a choice: drop one."
            )

    def plan(self, plan: Plan) -> Plan:
        """Ask for candidates, and for their views without colours if these are scored."""
        asked = super().plan(plan)
        if self.colours:
            return asked
        own = {pool.name: pool.augmentation.size for pool in asked.pools if chooses(asked, pool.name)}
        return asked.with_geometry({name: min(side, self.size or side) for name, side in own.items()})

    def refuses(self, method: Method) -> str | None:
        """Refuse a size that the network cannot take, and a BatchNorm that the method does not support."""
        if reason := unknown_kinds(self.kinds, method):
            return reason
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
        if self.best_locals and all(pool.target for pool in method.plan().pools):
            return (
                "best_locals chooses local views, and the method draws none: leave best_locals away. SwAV, DINO, "
                "iBOT and DeepCluster draw some, if their `locals` is above 0."
            )
        if self.best_locals and not separable(method.plan(), method.pairs()):
            return (
                "best_locals needs local views that only predict targets of global views, in slots that are all alike. "
                "Set limit instead."
            )
        # With as many candidates as slots nothing is scored.
        plan = self.plan(method.plan())
        if any(chooses(plan, pool.name) for pool in plan.pools) and not self._scored(plan, method.pairs()):
            return (
                'score="targets" reads pairs in which a view without a rival predicts a target of candidates, and here '
                'is none. Leave it out (score="loss"), or choose among global views alone, of a method with local '
                "views whose targets a second network makes from global ones: DINO or iBOT."
            )
        return super().refuses(method)

    def advises(self, method: Method) -> str | None:
        """Advise against a size at which the network sees too little of a view to compare it with others."""
        if self.size is None:
            return None
        largest = max(pool.augmentation.size for pool in method.plan().pools)
        if largest <= self.size:
            return (
                f"HardViews.size is {self.size}, and no view is larger than {largest} pixels: views are scored at "
                "their full size, as without it."
            )
        reason = too_coarse(method.backbone, self.size, largest)
        return reason and f"HardViews.size is {self.size}: {reason}"

    def _scored(self, plan: Plan, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
        """Return the pairs whose losses are scored."""
        pairs = of_kinds(pairs, self.kinds)
        if self.score == "loss":
            return pairs
        pools = {pool.name for pool in plan.pools}
        return tuple(
            pair
            for pair in pairs
            if not chooses(plan, pair.online.pool) and pair.target.pool in pools and chooses(plan, pair.target.pool)
        )

    def looked(self, method: Method, plan: Plan) -> Passes:
        """Count the scoring of every candidate, less the targets that training need not make again."""
        kept = self._kept(plan, is_noisy(method))
        # Pools whose scored views differ from the trained ones.
        apart = {
            pool.name
            for pool in plan.pools
            if (self.size or math.inf) < pool.augmentation.size or (not self.colours and chooses(plan, pool.name))
        }
        passes = trained(method, method.plan())
        views: set[Slot] = set()  # their features are made once for all summands
        for summand, pairs in method.summands:
            online, target = sides(self._scored(plan, pairs), plan)
            # Kept slots are encoded for training, with their targets if they have both sides.
            online, target = online - kept, target - (kept & online)
            separate = target if has_target_network(summand) else target - online
            if has_target_network(summand):
                passes += Passes(load(method, plan, target, self.size))
            else:
                online = online | target
            if summand.shares_features:
                views |= online
            else:
                passes += Passes(load(method, plan, online, self.size))
            if method.rowwise_targets and separate:
                again = [slot for slot in sides(pairs, method.plan())[1] & target if slot.pool not in apart]
                passes += Passes(-load(method, plan, again))
        passes += Passes(load(method, plan, views, self.size))
        if self.score == "targets":
            apart = {pool.name for pool in plan.pools}
        return passes + unselected(method, plan, apart)

    def _kept(self, plan: Plan, noisy: bool) -> frozenset[Slot]:
        """Return the slots without a rival whose encodings for training are used by the score too.

        There are none if candidates are normalised together, scoring moves running statistics, or noise is drawn again.
        """
        if self.normalise == "together" or self.move_statistics or (noisy and self.noise == "own"):
            return frozenset()
        return frozenset(slot for slot in plan.slots if not chooses(plan, slot.pool))

    def guesses(self, plan: Plan) -> bool:
        """Return whether it scores smaller views, views without colours, or a part of the loss to find the hardest."""
        smaller = any((self.size or math.inf) < pool.augmentation.size for pool in plan.pools)
        return self.choose == "hardest" and (smaller or not self.colours or self._partly)

    @property
    def _partly(self) -> bool:
        """Whether a part of the loss is scored."""
        return self.score == "targets" or self.kinds is not None

    @property
    def remedy(self) -> str:
        """What to do if guesses are poor, as a sentence."""
        if not self.colours:
            return f"Colours are left out of the score: set colours, or raise candidates (now {self.candidates})."
        if self.size is None and self.score == "loss" and self.kinds is not None:
            return f"Leave kinds out, or raise candidates (now {self.candidates})."
        if self.size is None:
            return f'Set score to "loss", or raise candidates (now {self.candidates}).'
        return f"Raise size (now {self.size}), or candidates (now {self.candidates})."

    def listed(self, plan: Plan) -> Plan:
        """Return the plan whose assignments are listed: global views alone if local ones are found by sorting."""
        if not self.best_locals:
            return plan
        return plan.with_candidates({pool.name: pool.slots for pool in plan.pools if not pool.target})

    def among(self, plan: Plan, table: Tensor, batch: Batch, objective: Scorer) -> list[Term]:
        """Return the batch of the hardest views as the only term."""
        hardest = self.choose == "hardest"
        look = Look(
            self.size,
            together=self.normalise == "together",
            move_statistics=self.move_statistics,
            plain=() if self.colours else [slot for slot in plan.candidates if chooses(plan, slot.pool)],
            kept=self._kept(plan, objective.noisy),
        )
        if self.best_locals:
            found, _ = candidate_pairs(plan.slots, objective.pairs, covering(plan, table))
            losses_QB = objective.score_pairs(batch, found, look)
            losses = dict(zip(found, losses_QB, strict=True))
            table = best_locals(plan, objective.pairs, table, losses, hardest)
            found, within_AP = candidate_pairs(plan.slots, objective.pairs, table)
            hardness_AB = objective.reduce(torch.stack([losses[pair] for pair in found]), within_AP)
        else:
            pairs = self._scored(plan, objective.pairs)
            if not pairs:
                return first_views(plan, batch)  # the parts of these kinds have not begun
            hardness_AB = objective.score(batch, table, look, pairs)
        choice_B = (hardness_AB if hardest else -hardness_AB).argmax(0)
        choice = Choice(choice_B, hardness_AB, not self.best_locals)
        return [Term(selected(plan, table, choice, batch, objective))]
