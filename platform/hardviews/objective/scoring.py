"""Losses of candidates, made without gradient and without side effects.

Shape legend: B samples of this rank's share, Q pairs of candidates.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from hardviews.batch import Batch
from hardviews.objective.step import Step, traceless
from hardviews.strategies.look import Look
from hardviews.views.plan import Pair, Plan


def score_pairs(
    step: Step,
    plan: Plan,
    trained: Sequence[Pair],
    batch: Batch,
    pairs: Sequence[Pair],
    look: Look,
) -> Tensor:
    """Return the losses (Q, B) of pairs of candidates, made in the same way as in `Objective.score`.

    `trained` are the method's pairs, for which kept views are encoded.
    """
    method = step.method
    scored = step.kept(batch, trained, look.kept)
    if look.plain:
        batch = replace(batch, views={s: v.geometry() if s in look.plain else v for s, v in batch.views.items()})
    if look.size is not None:
        own = {pool.name: pool.augmentation.size for pool in plan.pools}
        smaller = {
            slot: view if slot in look.kept else view.at(min(look.size, own[slot.pool]), own[slot.pool])
            for slot, view in batch.views.items()
        }
        batch = replace(batch, views=smaller)
    # On a GPU a launch costs as much as a small candidate, so all candidates go through a layer in one launch.
    by_view = not look.together and next(method.parameters()).device.type == "cuda"
    with traceless(method, look.move_statistics):
        encoded = step.encode(scored, replace(batch, together=look.together, by_view=by_view), pairs)
        losses_QB = method.pair_losses(batch, encoded.online, encoded.target, pairs)
    step.noted.update(scored)
    return losses_QB
