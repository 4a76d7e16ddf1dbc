"""DINO by hand: Caron et al. (ICCV 2021), algorithm 1, with multi-crop; outputs are held as in the authors' code."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, normalize, softmax

from bare.loop import Loop, follow
from hardviews.models.momentum import rising_momentum
from hardviews.train.recipe import Recipe


class Head(nn.Module):
    """An MLP, unit embeddings, and a last layer with rows of length 1."""

    def __init__(self, features: int, hidden: int, bottleneck: int, outputs: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last = nn.Linear(bottleneck, outputs, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return linear(normalize(self.mlp(features), dim=1), normalize(self.last.weight, dim=1))


class DINO(Loop):
    """A student predicts the outputs of its moving average; views of one size are one batch."""

    def build(self, recipe: Recipe) -> nn.Module:
        """Build the student, its average, and the centre."""
        config, network = recipe.method, recipe.backbone.build()
        head = Head(recipe.backbone.num_features, config.hidden, config.bottleneck, config.outputs)
        model = nn.Module()
        model.backbone, model.head = network, head
        model.momentum = nn.ModuleDict({"backbone": deepcopy(network), "head": deepcopy(head)})
        model.momentum.requires_grad_(False)
        model.centre = nn.Module()
        model.centre.register_buffer("mean", torch.zeros(config.outputs))
        self.config = config
        return model

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW without weight decay on biases and norms."""
        decayed = [p for p in self.trained() if p.ndim > 1]
        others = [p for p in self.trained() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.recipe.optimizer.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.peak)

    def loss(self, views: list[Tensor]) -> Tensor:
        """Return the mean cross-entropy of each view with each full-size view but itself."""
        model, config, count = self.model, self.config, len(views[0])
        with torch.no_grad():
            self.shown = model.momentum["head"](model.momentum["backbone"](torch.cat(views[:2])))
            taught = softmax((self.shown - model.centre.mean) / config.teacher_temperature, dim=1).split(count)
        features = [model.backbone(torch.cat(views[:2])), model.backbone(torch.cat(views[2:]))]
        seen = log_softmax(model.head(torch.cat(features)) / config.student_temperature, dim=1).split(count)
        losses = [-(q * s).sum(1).mean() for t, q in enumerate(taught) for v, s in enumerate(seen) if v != t]
        return torch.stack(losses).mean()

    def after(self) -> None:
        """Move the centre and the teacher."""
        super().after()
        model, config = self.model, self.config
        model.centre.mean.lerp_(self.shown.mean(0), 1 - config.centre_momentum)
        momentum = rising_momentum(config.momentum, 0.0)
        follow(model.momentum["backbone"], model.backbone, momentum)
        follow(model.momentum["head"], model.head, momentum)
