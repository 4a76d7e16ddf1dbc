"""All figures of health of one set of features, by name.

Shape legend: N samples, M images with Q views each, D features.
"""

import math

import torch
from torch import Tensor

from hardviews.health.alignment import alignment
from hardviews.health.alpha import decay
from hardviews.health.collapsed_dims import collapsed_dims
from hardviews.health.lidar import lidar
from hardviews.health.rankme import rankme
from hardviews.health.spread import spread
from hardviews.health.uniformity import uniformity

PREFIX = "health/"
LEAST = 2
"""Images, and views of each, below which nothing can be computed."""


def figures(values_ND: Tensor, views_MQD: Tensor) -> dict[str, float]:
    """Return every figure that features of images, and of views of some images, allow.

    Features that are not finite have no figures. Figures that need two images, or two views, are left out if there are
    fewer.
    """
    found: dict[str, float] = {}
    if len(values_ND) >= LEAST and torch.isfinite(values_ND).all():
        found["rankme"] = rankme(values_ND)
        law = decay(values_ND)
        if law is not None:
            found |= {"alpha": law.alpha, "alpha_r2": law.r2}
        found["uniformity"] = uniformity(values_ND)
        found["collapsed_dims"] = collapsed_dims(values_ND)
        found["spread"] = spread(values_ND)
    if min(views_MQD.shape[:2]) >= LEAST and torch.isfinite(views_MQD).all():
        found["lidar"] = lidar(views_MQD)
        found["alignment"] = alignment(views_MQD[:, 0], views_MQD[:, 1])
    return {name: value for name, value in found.items() if math.isfinite(value)}
