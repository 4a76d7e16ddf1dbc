"""Supervised training by hand."""

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bare.loop import Loop
from hardviews.train.recipe import Recipe


class Supervised(Loop):
    """A network with a linear classifier."""

    def build(self, recipe: Recipe) -> nn.Module:
        """Build backbone and classifier."""
        network, classes = timm.create_model(recipe.backbone.name, num_classes=0), recipe.method.classes
        self.labels = torch.arange(recipe.training.batch, device=self.device) % classes
        return nn.ModuleDict({"backbone": network, "head": nn.Linear(network.num_features, classes)})

    def loss(self, views: list[Tensor]) -> Tensor:
        """Return the mean cross-entropy."""
        return cross_entropy(self.model["head"](self.model["backbone"](views[0])), self.labels)
