"""SimCLR: a view finds its image's other view among all views of the batch.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (ICML 2020), algorithm 1.

Shape legend: B samples of this rank, G samples of all ranks, D width, P pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hardviews.batch import Batch, Mix, entropy
from hardviews.checked import above, added, at_least, require
from hardviews.collectives import gather_rows
from hardviews.full_precision import full_precision
from hardviews.methods.blocks import BLOCK, few, log_sum
from hardviews.methods.heads import mlp
from hardviews.methods.method import Method, MethodConfig
from hardviews.views.augmentation import Augmentation, simclr
from hardviews.views.plan import Pair, Plan, Pool, Slot


@dataclass(frozen=True)
class SimCLRConfig(MethodConfig):
    """SimCLR's head, temperature and views; the defaults are for ResNet-50 on ImageNet.

    Attributes:
        hidden: width of the head's hidden layers.
        layers: number of layers of the head.
        output: width of the embedding.
        temperature: temperature of the similarities.
        block: side of the square block of similarities in memory. If a batch has more of them, they are made block by
            block, and again in the backward pass. Results differ only by rounding.
        view: distribution of both views.
    """

    hidden: int = 2048
    layers: int = 2
    output: int = 128
    temperature: float = 0.1
    block: int = added(BLOCK)
    view: Augmentation = field(default_factory=simclr)

    def __post_init__(self) -> None:
        """Refuse heads without layers, and temperatures that are not positive."""
        require(
            self,
            "method",
            hidden=at_least(1),
            layers=at_least(1),
            output=at_least(1),
            temperature=above(0),
            block=at_least(1),
        )

    def build(self, backbone: nn.Module, features: int) -> "SimCLR":
        """Build the method over a backbone of that many features."""
        return SimCLR(self, backbone, features)


class Keys(NamedTuple):
    """A view's embeddings on all ranks (G, D), the row (B,) of each sample's positive, and its own row (B,)."""

    embeddings: Tensor
    positive: Tensor
    own: Tensor


class SimCLR(Method):
    """NT-Xent over both views of the whole batch; gradients reach the targets too."""

    needs_others = True

    def __init__(self, config: SimCLRConfig, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        widths = [features] + [config.hidden] * (config.layers - 1) + [config.output]
        self.projector = mlp(widths, last_norm=True)

    def plan(self) -> Plan:
        """Return two views of one distribution."""
        return Plan((Pool("view", 2, self.config.view),))

    def pairs(self) -> tuple[Pair, ...]:
        """Return both directions, half the weight each (the mean over 2B anchors)."""
        first, second = Slot("view", 0), Slot("view", 1)
        return Pair(first, second, 0.5), Pair(second, first, 0.5)

    @property
    def exported_head(self) -> nn.Module:
        """The projector."""
        return self.projector

    def embed(self, pixels: Tensor) -> Tensor:
        """Return unit embeddings (B, D)."""
        return normalize(full_precision(self.projector(self.backbone(pixels))), dim=1)

    def label(self, embedding: Tensor) -> Keys:
        """Return the embeddings of all ranks; a sample's positive is its own embedding."""
        embeddings_GD, first = gather_rows(embedding)
        rows = first + torch.arange(len(embedding), device=embeddings_GD.device)
        return Keys(embeddings_GD, rows, rows)

    def permute_target(self, target: Keys, partner: Tensor) -> Keys:
        """Make another row the positive and the sample's own; the candidates stay.

        So the loss of a mixed view to an image leaves that image's own view out of the negatives. A view of the partner
        alone has the partner's clean loss.
        """
        partner = partner.to(target.own.device, non_blocking=True)
        return target._replace(positive=target.positive[partner], own=target.own[partner])

    def pair_losses(
        self,
        batch: Batch,
        online: Mapping[Slot, Tensor],
        target: Mapping[Slot, Keys],
        pairs: Sequence[Pair],
    ) -> Tensor:
        """Return NT-Xent (P, B): one similarity matrix for each two views, for all of their pairs.

        For the pair n -> m the candidates are the views m of all images, and the views n of all other images.
        """
        block = self.config.block
        if not all(few(online[p.online], target[p.target].embeddings, block) for p in pairs):
            return self._in_blocks(online, target, pairs)
        logits: dict[tuple[Slot, Slot], Tensor] = {}
        totals: dict[tuple[Slot, Slot], Tensor] = {}
        losses = []
        for pair in pairs:
            for against in (pair.target, pair.online):
                key = pair.online, against
                if key not in logits:
                    candidates = target[against]
                    others = logits[key] = self._logits(online[pair.online], candidates.embeddings)
                    if against == pair.online:
                        others = others.scatter(1, candidates.own[:, None], -torch.inf)
                    totals[key] = others.logsumexp(1)
            positive = logits[pair.online, pair.target].gather(1, target[pair.target].positive[:, None]).squeeze(1)
            total = torch.logaddexp(totals[pair.online, pair.target], totals[pair.online, pair.online])
            losses.append(total - positive)
        return torch.stack(losses)

    def _in_blocks(self, online: Mapping[Slot, Tensor], target: Mapping[Slot, Keys], pairs: Sequence[Pair]) -> Tensor:
        """Return the same losses (P, B), never holding more than a block of similarities."""
        temperature, block = self.config.temperature, self.config.block
        totals: dict[tuple[Slot, Slot], Tensor] = {}
        losses = []
        for pair in pairs:
            anchors_BD, others = online[pair.online], target[pair.target]
            for against in (pair.target, pair.online):
                key = pair.online, against
                if key not in totals:
                    own_B = target[against].own if against == pair.online else None
                    totals[key] = log_sum(anchors_BD, target[against].embeddings, temperature, block, own_B)
            positive_B = (anchors_BD * others.embeddings[others.positive]).sum(1) / temperature
            losses.append(
                torch.logaddexp(totals[pair.online, pair.target], totals[pair.online, pair.online]) - positive_B
            )
        return torch.stack(losses)

    def mixed_floor(self, target: Mapping[Slot, Keys], pair: Pair, mix: Mix) -> Tensor:
        """Return the entropy (B,) of both positives' shares."""
        return entropy(mix).to(target[pair.target].embeddings)

    def scores(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Keys], pair: Pair
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (B, 2G) of all candidates of a pair, and the place (B,) of each sample's positive.

        The sample's own view is not a candidate: its logit is minus infinity.
        """
        others, same = target[pair.target], target[pair.online]
        logits = self._logits(online[pair.online], torch.cat([others.embeddings, same.embeddings]))
        own = len(others.embeddings) + same.own
        return logits.scatter(1, own[:, None], -torch.inf), others.positive

    def _logits(self, anchors_BD: Tensor, candidates_GD: Tensor) -> Tensor:
        # Autocast would round the cosines to bfloat16, 128 steps from 1/2 to 1, before the temperature divides them.
        with torch.autocast(anchors_BD.device.type, enabled=False):
            return anchors_BD @ candidates_GD.T / self.config.temperature
