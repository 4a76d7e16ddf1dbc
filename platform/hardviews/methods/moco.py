"""MoCo v2: a query finds its image's key among the keys of past batches.

He et al., "Momentum Contrast" (CVPR 2020), equations 1 and 2, algorithm 1; head, temperature and views of Chen et al.,
"Improved Baselines with Momentum Contrastive Learning" (arXiv 2003.04297). With attacked and cut-mixed queries it is
HEXA_MoCo (Li et al., arXiv 2012.13493).

Shape legend: B samples of this rank, G samples of all ranks, D width, K queued keys, P pairs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hardviews.batch import Batch, Mix, Samples, View, entropy
from hardviews.checked import above, added, at_least, require, within
from hardviews.clock import Clock
from hardviews.collectives import gather_rows, order_of_rows
from hardviews.encoded import Encoded
from hardviews.errors import UserError
from hardviews.full_precision import full_precision
from hardviews.methods.blocks import BLOCK, few, log_sum
from hardviews.methods.method import Method, MethodConfig
from hardviews.methods.queue import KeyQueue
from hardviews.methods.shuffle import Shuffle
from hardviews.models.batchnorm import grouped, has_batchnorm
from hardviews.models.groups import Groups
from hardviews.models.momentum import MomentumEncoder
from hardviews.views.augmentation import Augmentation, mocov2
from hardviews.views.plan import Pair, Plan, Pool, Slot

MixedLabels = Literal["joint", "separate", "batch"]

FIRST, SECOND = Slot("view", 0), Slot("view", 1)


@dataclass(frozen=True)
class MoCoConfig(MethodConfig):
    """MoCo v2's head, queue and views; the defaults are for ResNet-50 on ImageNet.

    Attributes:
        hidden: width of the head's hidden layer (published: width of the features).
        output: width of queries and keys.
        queue: number of keys kept as negatives.
        momentum: share of itself that the key encoder keeps in a step.
        temperature: temperature of the similarities.
        batchnorm: scope of normalisation. `group` normalises each fixed group of samples by itself, keys in other
            groups than queries; its size is `training.group` (published: 32, one GPU). `all` normalises the samples of
            all ranks together.
        symmetric: whether the second view is a query too, and the first its key, each direction with half the weight.
        mixed_labels: label of a query that is mixed of two images (HEXA's mixed binary label). `joint`: both keys among
            themselves and the queue; `separate`: each key by itself among the queue, as in Un-Mix; `batch`: both keys
            among the keys of all ranks and the queue, as in i-Mix.
        block: side of the square block of similarities to queued keys in memory. If a batch has more of them, they are
            made block by block, and again in the backward pass. Results differ only by rounding.
        view: distribution of both views.
    """

    hidden: int = 2048
    output: int = 128
    queue: int = 65536
    momentum: float = 0.999
    temperature: float = 0.2
    batchnorm: Literal["group", "all"] = "group"
    symmetric: bool = False
    mixed_labels: MixedLabels = "joint"
    block: int = added(BLOCK)
    view: Augmentation = field(default_factory=mocov2)

    def __post_init__(self) -> None:
        """Refuse settings without negatives or without a meaning."""
        require(
            self,
            "method",
            hidden=at_least(1),
            output=at_least(1),
            queue=at_least(1),
            momentum=within(0, 1),
            temperature=above(0),
            block=at_least(1),
        )

    def build(self, backbone: nn.Module, features: int) -> "MoCo":
        """Build the method over a backbone of that many features."""
        return MoCo(self, backbone, features)


class MoCo(Method):
    """InfoNCE of each query over its own key and the queue; keys take no gradient."""

    def __init__(self, config: MoCoConfig, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = nn.Sequential(
            nn.Linear(features, config.hidden), nn.ReLU(inplace=True), nn.Linear(config.hidden, config.output)
        )
        self.momentum = MomentumEncoder({"backbone": self.backbone, "projector": self.projector})
        self.queue = KeyQueue(config.queue, config.output)
        normalised = has_batchnorm(self)
        self.grouped = self.own_normalisation = normalised and config.batchnorm == "group"
        # If nothing normalises over samples, as in a ViT, a key depends on its own image alone.
        self.rowwise_targets = not normalised

    def check_group(self, size: int) -> None:
        """Refuse groups of one sample, whose statistics have no meaning."""
        if self.grouped and size == 1:
            raise UserError(
                "MoCo normalises each group of samples by itself, but training.group is 1: set it to 2 or more "
                "(published: 32), or method.batchnorm to all."
            )

    def plan(self) -> Plan:
        """Return two views of one distribution."""
        return Plan((Pool("view", 2, self.config.view),))

    def pairs(self) -> tuple[Pair, ...]:
        """Return the first view as query and the second as key; both directions if symmetric."""
        if self.config.symmetric:
            return Pair(FIRST, SECOND, 0.5), Pair(SECOND, FIRST, 0.5)
        return (Pair(FIRST, SECOND, 1.0),)

    def encode(self, batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        """Return unit queries (B, D) online and unit keys (B, D) of the key encoder as targets."""
        with grouped(self, self._groups(batch, batch.position)):
            queries = {slot: self.embed(batch.online(slot).pixels()) for slot in online}
        keys = {}
        if target:
            shuffle = Shuffle(batch, next(self.parameters()).device) if self.grouped else None
            with grouped(self, self._groups(batch)):
                for slot in target:
                    pixels = batch.views[slot].pixels()
                    keys[slot] = self._key(pixels) if shuffle is None else shuffle(self._key, pixels)
        return Encoded(queries, keys)

    def features(self, batch: Batch, views: Sequence[View]) -> dict[View, Tensor]:
        """Return the backbone's features of views, normalised as queries are."""
        with grouped(self, self._groups(batch, batch.position)):
            return {view: self.backbone(view.pixels()) for view in views}

    def _groups(self, batch: Batch, position: Tensor | None = None) -> Groups | None:
        if not self.grouped:
            return None
        self.check_group(batch.group)
        return Groups(len(batch), batch.group, position)

    @property
    def exported_head(self) -> nn.Module:
        """The projector."""
        return self.projector

    def embed(self, pixels: Tensor) -> Tensor:
        """Return unit queries (B, D)."""
        return normalize(full_precision(self.projector(self.backbone(pixels))), dim=1)

    @property
    def teacher(self) -> Callable[[Tensor], Tensor]:
        """The key encoder."""
        return self._key

    @torch.no_grad()
    def _key(self, pixels: Tensor) -> Tensor:
        features = self.momentum.get_submodule("backbone")(pixels)
        return normalize(full_precision(self.momentum.get_submodule("projector")(features)), dim=1)

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return InfoNCE (P, B), equation 1: one product with the queue for each query, for all of its pairs."""
        queued = {slot: self._queued(online[slot]) for slot in dict.fromkeys(pair.online for pair in pairs)}
        return torch.stack(
            [_cross_entropy(self._logit(online[p.online], target[p.target]), queued[p.online]) for p in pairs]
        )

    def mixed_loss(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pair: Pair, mix: Mix
    ) -> Tensor:
        """Return the cross-entropy (B,) of a label with weight w on the own key, and the rest on the partner's.

        With s and t the logits of the own and the partner's key, b the logits of the keys of all ranks, n the queue's:

            joint      log(e^s + e^t + sum e^n) - w s - (1 - w) t
            batch      log(sum e^b + sum e^n) - w s - (1 - w) t
            separate   w [log(e^s + sum e^n) - s] + (1 - w) [log(e^t + sum e^n) - t]

        A label of one key alone is that key's clean label, whose only other candidates are the queue's. This is so if w
        is 0 or 1, or in `joint` if the partner is the sample itself. Between, `joint` and `batch` are linear in w and
        never below the entropy of (w, 1 - w).
        """
        if self.config.mixed_labels == "separate":
            return super().mixed_loss(batch, online, target, pair, mix)
        query_BD, key_BD = online[pair.online], target[pair.target]
        queued_B = self._queued(query_BD)
        own_B = self._logit(query_BD, key_BD)
        other_B = self._logit(query_BD, self.permute_target(key_BD, mix.partner))
        if self.config.mixed_labels == "batch":
            keys_GD, _ = gather_rows(key_BD.detach())
            named_B = self._logits(query_BD, keys_GD).logsumexp(1)
        else:
            itself_B = mix.partner.to(own_B.device, non_blocking=True) == torch.arange(len(own_B), device=own_B.device)
            named_B = torch.where(itself_B, own_B, torch.logaddexp(own_B, other_B))
        weight_B = mix.weight.to(own_B)
        mixed_B = torch.logaddexp(named_B, queued_B) - weight_B * own_B - (1 - weight_B) * other_B
        mixed_B = torch.where(weight_B == 0, _cross_entropy(other_B, queued_B), mixed_B)
        return torch.where(weight_B == 1, _cross_entropy(own_B, queued_B), mixed_B)

    def mixed_floor(self, target: Mapping[Slot, Tensor], pair: Pair, mix: Mix) -> Tensor | None:
        """Return the entropy (B,) of both keys' shares; with `separate` there is none."""
        return None if self.config.mixed_labels == "separate" else entropy(mix).to(target[pair.target])

    def scores(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pair: Pair
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (B, 1 + K) of the own key and the queue's, and the label 0, the own key."""
        query_BD = online[pair.online]
        own_B = self._logit(query_BD, target[pair.target])
        logits = torch.cat([own_B[:, None], self._logits(query_BD, self.queue.keys)], dim=1)
        return logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device)

    def _logit(self, query_BD: Tensor, key_BD: Tensor) -> Tensor:
        return (query_BD * key_BD).sum(1) / self.config.temperature

    def _logits(self, query_BD: Tensor, keys_ND: Tensor) -> Tensor:
        # Autocast would round the product, and with it the sum over a large queue, to bfloat16.
        with torch.autocast(query_BD.device.type, enabled=False):
            return query_BD @ keys_ND.T / self.config.temperature

    def _queued(self, query_BD: Tensor) -> Tensor:
        """Return the logarithm (B,) of the queue's part of the denominator."""
        keys_KD = self.queue.keys
        if few(query_BD, keys_KD, self.config.block):
            return self._logits(query_BD, keys_KD).logsumexp(1)
        return log_sum(query_BD, keys_KD, self.config.temperature, self.config.block)

    @torch.no_grad()
    def update(self, encoded: Encoded, clock: Clock, samples: Samples) -> None:
        """Move the key encoder towards the query encoder (equation 2), and queue the keys of this step.

        The published code moves the key encoder inside the next step, between queries and keys. No weight changes from
        here to there, so every key is made by the same weights. At the first step both encoders are equal, so a move
        would have no effect.
        """
        self.momentum.follow({"backbone": self.backbone, "projector": self.projector}, self.config.momentum)
        order_G = order_of_rows(samples.position, self.queue.keys.device)
        for slot in dict.fromkeys(pair.target for pair in self.pairs()):
            keys_GD, _ = gather_rows(encoded.target[slot])
            self.queue.push(keys_GD[order_G])


def _cross_entropy(key_B: Tensor, queued_B: Tensor) -> Tensor:
    """Return the cross-entropy (B,) of one key's logit against the logarithm of the sum over the queue."""
    return torch.logaddexp(key_B, queued_B) - key_B
