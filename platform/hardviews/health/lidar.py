"""LiDAR: the number of directions that separate images, against the differences between views of one image.

Thilak et al., "LiDAR: Sensing Linear Probing Performance in Joint Embedding SSL Architectures" (ICLR 2024, arXiv
2312.04000): the rank of a linear discriminant analysis whose classes are images and whose samples are their views.

Shape legend: N images, Q views of each, D features, K = min(N, D).
"""

import torch
from torch import Tensor

from hardviews.health.spectrum import entropy_rank

_DELTA = 1e-4  # is added to the diagonal of the covariance within images
_EPSILON = 1e-8


def lidar(values_NQD: Tensor) -> float:
    """Return the effective rank of Sw^-1/2 Sb Sw^-1/2, from 1 to min(N - 1, D).

    Sb is the covariance of the images' means, Sw that of the views around the mean of their image; both unbiased. N and
    Q must be 2 or more. The ridge makes it depend on the scale of the features.
    """
    images, views, width = values_NQD.shape
    values_NQD = values_NQD.double()
    means_ND = values_NQD.mean(1)
    around_MD = (values_NQD - means_ND[:, None]).flatten(0, 1)
    within_DD = around_MD.T @ around_MD / (images * (views - 1))
    within_DD.diagonal().add_(_DELTA)
    between_ND = (means_ND - means_ND.mean(0)) / (images - 1) ** 0.5
    # With Sw = L L^T, the eigenvalues wanted are those of the Gram matrices of L^-1 between^T.
    whitened_DN = torch.linalg.solve_triangular(torch.linalg.cholesky(within_DD), between_ND.T, upper=False)
    gram_KK = whitened_DN.T @ whitened_DN if images < width else whitened_DN @ whitened_DN.T
    return entropy_rank(torch.linalg.eigvalsh(gram_KK).clamp(min=0), _EPSILON)
