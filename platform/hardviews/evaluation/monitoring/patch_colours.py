"""Colours for the parts of images: the three main directions of their features, as red, green and blue.

The directions are fitted on all given images together, so that equal features have equal colours in all of them. A
principal component has no sign of its own, and its place among the others changes while a network trains. So the three
are turned together, by a rotation or reflection, to be nearest to the parts' own mean colours (orthogonal Procrustes
problem, Schoenemann 1966). That depends only on the images and on the geometry of the features. Nothing is kept between
steps, and colours stay comparable over steps and runs.

Shape legend: B images, R rows and K columns of a map, D features, N parts of all images, M = min(N, D).
"""

import torch
from torch import Tensor

_WIDE = 2.5  # range in standard deviations; values beyond have the colour of the end
_HOLD = 1e-3  # least correlation of parts and colours; a weaker one leaves a component unchanged


def patch_colours(features_BRKD: Tensor, own_BRK3: Tensor) -> Tensor:
    """Return a colour of each part, float64 (B, R, K, 3) in [0, 1]; parts of mean features are grey.

    own_BRK3: the mean colour of the pixels of each part, on any scale.
    """
    scores_N3 = _components(features_BRKD.flatten(0, 2).double())
    own_N3 = own_BRK3.flatten(0, 2).double()
    own_N3 = own_N3 - own_N3.mean(0)
    turned_N3 = scores_N3 @ _turn(scores_N3, own_N3)
    colours_N3: Tensor = (0.5 + turned_N3 / (2 * _WIDE)).clamp(0, 1)
    return colours_N3.reshape(own_BRK3.shape)


def _components(values_ND: Tensor) -> Tensor:
    """Return the first three principal components (N, 3), each of mean 0 and deviation 1, or 0 if there are fewer.

    The sign of each is such that its largest loading is positive.
    """
    centred_ND = values_ND - values_ND.mean(0)
    count, width = centred_ND.shape
    if count < width:  # the smaller of the two products
        powers_M, sides_NM = torch.linalg.eigh(centred_ND @ centred_ND.T)
        directions_DM = centred_ND.T @ sides_NM
    else:
        powers_M, directions_DM = torch.linalg.eigh(centred_ND.T @ centred_ND)
    directions_D3 = directions_DM.flip(1)[:, :3]
    largest_3 = directions_D3.gather(0, directions_D3.abs().argmax(0, keepdim=True))
    scores_N3 = centred_ND @ (directions_D3 * largest_3.sign())
    deviations_3 = scores_N3.square().mean(0).sqrt()
    # Rounding of a direction in which nothing varies is not shown as if it were features.
    real_3 = powers_M.flip(0)[:3] > 1e-10 * powers_M[-1].clamp(min=1e-300)
    scores_N3 = torch.where(real_3, scores_N3 / deviations_3.clamp(min=1e-300), torch.zeros_like(scores_N3))
    return torch.nn.functional.pad(scores_N3, (0, 3 - scores_N3.shape[1]))


def _turn(scores_N3: Tensor, own_N3: Tensor) -> Tensor:
    """Return the orthogonal matrix (3, 3) that brings scores nearest to the parts' own colours.

    Grey images fix one direction of the three alone; the others then stay as they are, as far as they can.
    """
    together_33 = scores_N3.T @ own_N3
    strength = torch.linalg.matrix_norm(together_33, 2)
    if not strength > 0:
        return torch.eye(3, dtype=torch.double, device=scores_N3.device)
    left_33, _, right_33 = torch.linalg.svd(
        together_33 / strength + _HOLD * torch.eye(3, dtype=torch.double, device=scores_N3.device)
    )
    turn_33: Tensor = left_33 @ right_33
    return turn_33
