"""MoCo v2 by hand, on one device: He et al. (CVPR 2020), algorithm 1."""

from copy import deepcopy

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from bare.loop import Loop, follow
from hardviews.train.recipe import Recipe


class MoCo(Loop):
    """A query, a key of the momentum encoder, and a queue of keys."""

    def build(self, recipe: Recipe) -> nn.Module:
        """Build the query encoder, its copy, and the queue."""
        config = recipe.method
        network = timm.create_model(recipe.backbone.name, num_classes=0)
        features = network.num_features
        head = nn.Sequential(nn.Linear(features, config.hidden), nn.ReLU(inplace=True))
        head.append(nn.Linear(config.hidden, config.output))
        model = nn.Module()
        model.backbone, model.projector = network, head
        model.momentum = nn.ModuleDict({"backbone": deepcopy(network), "projector": deepcopy(head)})
        model.momentum.requires_grad_(False)
        model.queue = nn.Module()
        model.queue.register_buffer("keys", torch.zeros(config.queue, config.output))
        self.place, self.config = 0, config
        return model

    def loss(self, views: list[Tensor]) -> Tensor:
        """Return InfoNCE; the keys are queued after the step."""
        model = self.model
        query = normalize(model.projector(model.backbone(views[0])), dim=1)
        with torch.no_grad():
            self.keys = normalize(model.momentum["projector"](model.momentum["backbone"](views[1])), dim=1)
        positive = (query * self.keys).sum(1, keepdim=True)
        negative = query @ model.queue.keys.T
        logits = torch.cat([positive, negative], 1) / self.config.temperature
        return cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))

    def after(self) -> None:
        """Move the key encoder, and put the keys into the queue in place of the oldest."""
        super().after()
        follow(self.model.momentum["backbone"], self.model.backbone, self.config.momentum)
        follow(self.model.momentum["projector"], self.model.projector, self.config.momentum)
        count = len(self.keys)
        self.model.queue.keys[self.place : self.place + count] = self.keys
        self.place = (self.place + count) % self.config.queue
