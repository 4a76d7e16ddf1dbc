"""Adversarial views for a loop of one's own: moved within a pixel bound so that a loss rises.

One step is FGSM (Goodfellow et al. 2015), more are PGD (Madry et al. 2018); on self-supervised losses: HEXA (Li et al.
2020). `Adversarial` is the same for a run of hardviews (`hardviews.strategies.adversarial`), with BatchNorm of its own.

Shape legend: B samples.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hardviews.errors import UserError
from hardviews.full_precision import full_precision
from hardviews.own_loop.unchanged import check_network, unchanged
from hardviews.strategies.bounded import ascended, bounded, step_size_of
from hardviews.views.augmentation import Normalisation


def attack(
    network: nn.Module,
    view: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    epsilon: float = 2 / 255,
    steps: int = 1,
    step_size: float | None = None,
    normalisation: Normalisation | None = None,
) -> Tensor:
    """Return the view (B, 3, H, W), moved within the bound so that the loss rises.

    One step starts at the view itself, several at a random place in the bound. No weight gets a gradient, and nothing
    of the network changes.

    `network`: the trained network, as a whole. `view`: pixels that were normalised by `normalisation` (default:
    ImageNet's mean and deviation). `loss`: loss of the view, one number or one for each image; detach the tensors that
    the view is compared with. `epsilon`: the bound on every pixel and channel, in units of [0, 1].

    Raises:
        UserError: the settings are no attack, or the loss does not depend on the view.
    """
    check_network("attack", network)
    if not view.is_floating_point():
        raise UserError(
            f"attack got a view of type {view.dtype}: normalise it first, for example by "
            "`hardviews.views.augmentation.Normalisation().normalise(view)`."
        )
    if not epsilon >= 0:
        raise UserError(f"attack got epsilon={epsilon}: a bound is 0 or more, in units of [0, 1], such as 4/255.")
    if epsilon > 1:
        raise UserError(f"attack got epsilon={epsilon}, but pixels lie in [0, 1]: write 4/255 as {4 / 255:.4f}.")
    if not isinstance(steps, int) or steps < 1:
        raise UserError(f"attack got steps={steps}: take 1 (FGSM) or more (PGD).")
    if step_size is not None and not step_size > 0:
        raise UserError(f"attack got step_size={step_size}: give a part of the bound, such as 1/255, or leave it out.")
    normalisation = normalisation or Normalisation()
    clean = full_precision(view.detach())
    moved = clean
    if steps > 1:
        noise = torch.rand_like(clean) * 2 - 1
        moved = bounded(clean + normalisation.radius(epsilon, clean) * noise, clean, epsilon, normalisation)
    size = step_size_of(epsilon, steps, step_size)
    with unchanged(network):
        for _ in range(steps):
            with torch.enable_grad():
                leaf = moved.detach().requires_grad_()
                # Summed, not averaged: a mean over a large batch can underflow to a gradient of sign 0.
                value = loss(leaf).sum()
                if not value.requires_grad:
                    raise UserError("attack got a loss that does not depend on the view: compute it from the argument.")
                (grad,) = torch.autograd.grad(value, leaf)
            moved = ascended(leaf.detach(), grad, clean, size, epsilon, normalisation)
    return moved.to(view.dtype)
