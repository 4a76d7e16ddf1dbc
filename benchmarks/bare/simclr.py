"""SimCLR by hand: Chen et al. (ICML 2020), algorithm 1."""

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from bare.loop import Loop
from hardviews.train.recipe import Recipe


class SimCLR(Loop):
    """NT-Xent over the views of the batch."""

    def build(self, recipe: Recipe) -> nn.Module:
        """Build backbone and projector."""
        network, hidden, output = timm.create_model(recipe.backbone.name, num_classes=0), 2048, 128
        projector = nn.Sequential(
            nn.Linear(network.num_features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, output, bias=False),
            nn.BatchNorm1d(output),
        )
        return nn.ModuleDict({"backbone": network, "projector": projector})

    def loss(self, views: list[Tensor], temperature: float = 0.1) -> Tensor:
        """Return the mean cross-entropy over all 2B views."""
        made = [normalize(self.model["projector"](self.model["backbone"](view)), dim=1) for view in views]
        rows = torch.cat(made)
        logits = rows @ rows.T / temperature
        logits.fill_diagonal_(-torch.inf)
        count = len(views[0])
        positive = torch.arange(2 * count, device=rows.device).roll(count)
        return cross_entropy(logits, positive)
