"""SimSiam by hand: Chen & He (CVPR 2021), algorithm 1."""

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bare.loop import Loop
from hardviews.train.recipe import Recipe


class SimSiam(Loop):
    """Two views, one network, a predictor and a stop-gradient."""

    def build(self, recipe: Recipe) -> nn.Module:
        """Build backbone, projector of three layers and predictor."""
        network, width, bottleneck = timm.create_model(recipe.backbone.name, num_classes=0), 2048, 512

        def block(inside: int, outside: int, last: bool) -> list[nn.Module]:
            norm = nn.BatchNorm1d(outside, affine=not last)
            return [nn.Linear(inside, outside, bias=False), norm, *([] if last else [nn.ReLU(inplace=True)])]

        first = block(network.num_features, width, False)
        projector = nn.Sequential(*first, *block(width, width, False), *block(width, width, True))
        predictor = nn.Sequential(*block(width, bottleneck, False), nn.Linear(bottleneck, width))
        return nn.ModuleDict({"backbone": network, "projector": projector, "predictor": predictor})

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return SGD; the predictor's learning rate stays (section 4.2)."""
        told, model = self.recipe.optimizer, self.model
        groups = [
            {"params": [*model["backbone"].parameters(), *model["projector"].parameters()]},
            {"params": model["predictor"].parameters(), "fixed": True},
        ]
        return torch.optim.SGD(
            groups, lr=self.peak, momentum=told.momentum, weight_decay=told.weight_decay, nesterov=True
        )

    def encode(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Return projections and predictions (B, D)."""
        projected = self.model["projector"](self.model["backbone"](view))
        return projected, self.model["predictor"](projected)

    def loss(self, views: list[Tensor]) -> Tensor:
        """Return the symmetric negative cosine."""
        (z1, p1), (z2, p2) = map(self.encode, views)
        return -0.5 * (cosine(p1, z2.detach()) + cosine(p2, z1.detach())).mean()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine (B,) of rows."""
    return (normalize(a, dim=1) * normalize(b, dim=1)).sum(1)
