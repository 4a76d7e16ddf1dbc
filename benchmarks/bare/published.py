"""Hard view selection as the authors' code has it, written anew: Ferreira et al. (ICLR 2025), github.com/automl/hvp.

SimSiam: all candidates are one batch of one forward pass, and BatchNorm normalises them together and moves its running
statistics. DINO: the loss of every combination of candidates is made from outputs of full width. In both the chosen
views are put together by `where` over whole batches, and encoded once more to train, by the teacher too.
"""

from itertools import combinations, product

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax

from bare.dino import DINO
from bare.simsiam import SimSiam, cosine


class PublishedSimSiam(SimSiam):
    """Trains on the pair of views with the least cosine."""

    def loss(self, views: list[Tensor]) -> Tensor:
        """Choose, then train as ever."""
        return super().loss(self.select(views))

    @torch.no_grad()
    def select(self, views: list[Tensor]) -> list[Tensor]:
        """Return the hardest pair of each image."""
        count = len(views[0])
        projected, predicted = self.encode(torch.cat(views))
        z, p = projected.split(count), predicted.split(count)
        least = torch.full((count,), torch.inf, device=self.device)
        first, second = views[0], views[1]
        for n, m in combinations(range(len(views)), 2):
            similarity = 0.5 * (cosine(p[n], z[m]) + cosine(p[m], z[n]))
            better = similarity < least
            least = torch.where(better, similarity, least)
            mask = better.view(-1, 1, 1, 1)
            first, second = torch.where(mask, views[n], first), torch.where(mask, views[m], second)
        return [first, second]


class PublishedDINO(DINO):
    """Trains on the even and the odd view with the greatest loss; all small views are kept."""

    candidates = 4

    def loss(self, views: list[Tensor]) -> Tensor:
        """Choose, then train as ever."""
        half = self.candidates // 2
        even, odd, small = views[:half], views[half : 2 * half], views[2 * half :]
        return super().loss([*self.select(even, odd, small), *small])

    @torch.no_grad()
    def select(self, even: list[Tensor], odd: list[Tensor], small: list[Tensor]) -> list[Tensor]:
        """Return the hardest combination of each image."""
        model, config, count = self.model, self.config, len(even[0])
        full = [*even, *odd]
        shown = model.momentum["head"](model.momentum["backbone"](torch.cat(full)))
        taught = softmax((shown - model.centre.mean) / config.teacher_temperature, dim=1).split(count)
        features = [model.backbone(torch.cat(full)), model.backbone(torch.cat(small))]
        seen = (model.head(torch.cat(features)) / config.student_temperature).split(count)
        worst = torch.full((count,), -torch.inf, device=self.device)
        chosen = [even[0], odd[0]]
        for n, m in product(range(len(even)), range(len(even), len(full))):
            loss = torch.zeros(count, device=self.device)
            views = [n, m, *range(len(full), len(seen))]
            for t in (n, m):
                for v in views:
                    if v != t:
                        loss += -(taught[t] * log_softmax(seen[v], dim=1)).sum(1)
            better = loss > worst
            worst = torch.where(better, loss, worst)
            mask = better.view(-1, 1, 1, 1)
            chosen = [torch.where(mask, full[i], old) for i, old in zip((n, m), chosen, strict=True)]
        return chosen
