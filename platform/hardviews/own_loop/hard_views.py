"""HVS for a loop of one's own: of several views of each image, the pair that the network finds hardest.

Ferreira et al., "Beyond Random Augmentations: Pretraining with Hard Views" (ICLR 2025), algorithm 1. `HardViews` is the
same for a run of hardviews (`hardviews.strategies.hard_views`).

Shape legend: B samples, N candidates, A pairs of candidates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hardviews.errors import UserError
from hardviews.full_precision import full_precision
from hardviews.own_loop.unchanged import check_network, unchanged
from hardviews.views.pixels import pick_rows


@dataclass(frozen=True, eq=False)
class Chosen:
    """The views that were chosen, and how.

    Attributes:
        views: the two views to train on, each (B, C, H, W).
        hardness: loss (B,) of the chosen pair, as it was scored.
        candidates: numbers (B, 2) of each image's two views among the N candidates.
        pairs: the pairs that were compared (A, 2).
        losses: losses of every pair and image (A, B).
    """

    views: tuple[Tensor, Tensor]
    hardness: Tensor
    candidates: Tensor
    pairs: Tensor
    losses: Tensor


@torch.no_grad()
def hard_views(
    network: nn.Module,
    candidates: Sequence[Tensor],
    encode: Callable[[Tensor], Any],
    pair_loss: Callable[[Any, Any], Tensor],
    *,
    size: int | None = None,
    ordered: bool = False,
    choose: Literal["hardest", "easiest"] = "hardest",
) -> Chosen:
    """Return for each image the two of its candidate views whose loss is highest.

    Each candidate is encoded once, without gradient, and each pair of candidates costs one loss. Nothing of the network
    changes: weights, running statistics and random streams stay.

    `network`: the trained network, as a whole. `candidates`: N batches of views, each (B, C, H, W), image i in row i of
    each. `encode`: what `pair_loss` needs of a view. `pair_loss`: the loss (B,) of training on two encoded views.
    `size`: score at a lower resolution, in pixels. `ordered`: the loss differs if the views change places (MoCo's query
    and key), so that both orders are compared.

    Raises:
        UserError: there are fewer than two candidates, their shapes differ, the loss is not one finite number an image,
            or a setting means nothing.
    """
    _check(network, candidates, size, choose)
    small = [_resized(view, size) for view in candidates]
    with unchanged(network):
        encoded = [encode(view) for view in small]
        numbers = list((permutations if ordered else combinations)(range(len(candidates)), 2))
        losses_AB = torch.stack([_checked(pair_loss(encoded[i], encoded[j]), candidates[0]) for i, j in numbers])
    choice_B = (losses_AB if choose == "hardest" else -losses_AB).argmax(0)
    pairs_A2 = torch.tensor(numbers, device=choice_B.device)
    candidates_B2 = pairs_A2[choice_B]
    first, second = (pick_rows(candidates, candidates_B2[:, side]) for side in (0, 1))
    return Chosen((first, second), losses_AB.gather(0, choice_B[None])[0], candidates_B2, pairs_A2, losses_AB)


def _check(network: nn.Module, candidates: Sequence[Tensor], size: int | None, choose: str) -> None:
    check_network("hard_views", network)
    if choose not in ("hardest", "easiest"):
        raise UserError(f"hard_views got choose={choose!r}: take hardest or easiest.")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise UserError(f"hard_views got size={size}: give pixels, 1 or more, or leave it out for full size.")
    if len(candidates) < 2:
        raise UserError(f"hard_views chooses two of several views, and got {len(candidates)}: draw at least two.")
    shapes = {tuple(view.shape) for view in candidates}
    if len(shapes) > 1 or candidates[0].ndim != 4:
        raise UserError(
            "hard_views needs candidates that are batches of one shape (B, C, H, W), image i in row i of each, and got "
            f"{' and '.join(str(shape) for shape in sorted(shapes))}."
        )


def _checked(losses_B: Tensor, view: Tensor) -> Tensor:
    if losses_B.shape != (len(view),):
        raise UserError(
            f"pair_loss returned a tensor of shape {tuple(losses_B.shape)} for {len(view)} images. Return one loss an "
            f"image, of shape ({len(view)},): most losses do so without their mean (reduction='none')."
        )
    if losses_B.isnan().any():
        raise UserError(
            f"pair_loss returned NaN for {int(losses_B.isnan().sum())} of {len(view)} images, of which no pair is the "
            "hardest. Look for the first step with a loss that is not finite."
        )
    return full_precision(losses_B)


def _resized(view: Tensor, size: int | None) -> Tensor:
    if size is None or size >= max(view.shape[-2:]):
        return view
    return interpolate(view, (size, size), mode="bilinear", antialias=True)
