"""MoCo v2: a query is to find its key among those of past batches.

He et al., "Momentum Contrast" (CVPR 2020), equations 1 and 2 and algorithm 1; the head, the temperature and the views
are those of Chen et al., "Improved Baselines with Momentum Contrastive Learning" (arXiv 2003.04297). With attacked and
cut-mixed queries it is HEXA_MoCo (Li et al., arXiv 2012.13493).

Shape legend: B samples of this rank, G samples of all ranks, D width, K queued keys, P pairs.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hardviews.batch import Batch, Clock, Mix
from hardviews.collectives import gather_rows
from hardviews.errors import UserError
from hardviews.full_precision import full_precision
from hardviews.methods.heads import mlp
from hardviews.methods.method import Encoded, Method, MethodConfig
from hardviews.methods.queue import KeyQueue
from hardviews.methods.shuffle import shuffled
from hardviews.models.batchnorm import BranchedBatchNorm, grouped
from hardviews.models.momentum import MomentumEncoder
from hardviews.views.augmentation import Augmentation, mocov2
from hardviews.views.plan import Pair, Plan, Pool, Slot

FIRST, SECOND = Slot("view", 0), Slot("view", 1)


@dataclass(frozen=True)
class MoCoConfig(MethodConfig):
    """MoCo v2's head, queue and views; the defaults are those of ResNet-50 on ImageNet.

    Attributes:
        hidden: width of the head's hidden layer.
        output: width of queries and keys.
        queue: how many keys are kept as negatives.
        momentum: share of its old weights that the key encoder keeps in a step.
        temperature: of the similarities.
        batchnorm: statistics of each fixed group of samples, the groups of keys shuffled against those of queries
            (published, a group being what one GPU held), or of the whole batch.
        symmetric: both views are queries in turn, each with half the weight (as later code does), or the first alone.
        mixed: what a query mixed of two images is to find, its label being split between their keys (HEXA's mixed
            binary label, read in three ways). `joint`: both keys in one set with the queue. `separate`: each key in a
            set of its own (as in Un-Mix). `batch`: both among the keys of the whole batch and the queue (as in i-Mix).
        view: what both views are drawn from.
    """

    hidden: int = 2048
    output: int = 128
    queue: int = 65536
    momentum: float = 0.999
    temperature: float = 0.2
    batchnorm: Literal["group", "batch"] = "group"
    symmetric: bool = False
    mixed: Literal["joint", "separate", "batch"] = "joint"
    view: Augmentation = field(default_factory=mocov2)

    def __post_init__(self) -> None:
        """Refuse settings that tell no keys apart."""
        if self.queue < 1 or self.temperature <= 0 or not 0 <= self.momentum <= 1:
            raise UserError(
                f"MoCo has queue={self.queue}, temperature={self.temperature} and momentum={self.momentum}; the first "
                "must be 1 or more, the second above 0, and the third lies in [0, 1]."
            )

    def build(self, backbone: nn.Module, features: int) -> "MoCo":
        """Build the method over a backbone of that many features."""
        return MoCo(self, backbone, features)


class MoCo(Method):
    """InfoNCE of a query against its own key and a queue of others."""

    def __init__(self, config: MoCoConfig, backbone: nn.Module, features: int) -> None:
        """Add head, key encoder and queue to the backbone."""
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = mlp([features, config.hidden, config.output], last_norm=False, hidden_norm=False)
        self.momentum = MomentumEncoder({"backbone": self.backbone, "projector": self.projector})
        self.queue = KeyQueue(config.queue, config.output)
        self.grouped = config.batchnorm == "group" and _has_batchnorm(self)
        self.joint_labels = config.mixed != "separate"
        # A key depends on its sample alone where nothing normalises over the batch.
        self.rowwise_targets = not _has_batchnorm(self)

    def plan(self) -> Plan:
        """Return two views of one distribution."""
        return Plan((Pool("view", 2, self.config.view),))

    def pairs(self) -> tuple[Pair, ...]:
        """Return the first view as query and the second as key; or each in turn."""
        if self.config.symmetric:
            return Pair(FIRST, SECOND, 0.5), Pair(SECOND, FIRST, 0.5)
        return (Pair(FIRST, SECOND, 1.0),)

    def encode(self, batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        """Return unit queries (B, D) online and unit keys (B, D) as targets."""
        with grouped(self, batch.group, batch.position) if self.grouped else nullcontext():
            queries = {slot: self._query(batch.online(slot).pixels()) for slot in online}
        with grouped(self, batch.group) if self.grouped else nullcontext():
            keys = {slot: self._keys(batch, batch.views[slot].pixels()) for slot in target}
        return Encoded(queries, keys)

    def _query(self, pixels: Tensor) -> Tensor:
        return normalize(full_precision(self.projector(self.backbone(pixels))), dim=1)

    @torch.no_grad()
    def _keys(self, batch: Batch, pixels: Tensor) -> Tensor:
        encoder, head = self.momentum.get_submodule("backbone"), self.momentum.get_submodule("projector")

        def keys(pixels: Tensor) -> Tensor:
            return normalize(full_precision(head(encoder(pixels))), dim=1)

        return shuffled(keys, batch, pixels) if self.grouped else keys(pixels)

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return InfoNCE (P, B), equation 1: one product with the queue for each query, whatever pairs read it."""
        totals = self._queue_totals(online, pairs)
        losses = []
        for pair in pairs:
            own_B = self._positive(online[pair.online], target[pair.target])
            losses.append(torch.logaddexp(own_B, totals[pair.online]) - own_B)
        return torch.stack(losses)

    def _queue_totals(self, online: Mapping[Slot, Tensor], pairs: Sequence[Pair]) -> dict[Slot, Tensor]:
        """Return for each query slot the logarithm of the queue's part of the denominator (B,)."""
        queue_KD = self.queue.keys
        return {
            slot: (online[slot] @ queue_KD.T / self.config.temperature).logsumexp(1)
            for slot in dict.fromkeys(pair.online for pair in pairs)
        }

    def _positive(self, query_BD: Tensor, key_BD: Tensor) -> Tensor:
        return (query_BD * key_BD).sum(1) / self.config.temperature

    def mixed_loss(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pair: Pair, mix: Mix
    ) -> Tensor:
        """Return the cross-entropy (B,) with a label of weight w on the own key and 1 - w on the partner's.

        With s, t the logits of the own and of the partner's key, Q the sum over the queue and A that over all keys of
        the batch, both of exponentials:

            joint      log(e^s + e^t + Q) - w s - (1 - w) t
            separate   w [log(e^s + Q) - s] + (1 - w) [log(e^t + Q) - t]
            batch      log(A + Q) - w s - (1 - w) t

        A view that is one image alone (w is 1 or 0) has that image's clean loss: a key that its label does not name is
        no candidate. Between, `joint` and `batch` are linear in w and never below the entropy of (w, 1 - w).
        """
        if self.config.mixed == "separate":
            return super().mixed_loss(batch, online, target, pair, mix)
        query_BD, key_BD = online[pair.online], target[pair.target]
        queue_B = self._queue_totals(online, [pair])[pair.online]
        own_B = self._positive(query_BD, key_BD)
        other_B = self._positive(query_BD, self.permute_target(key_BD, mix.partner))
        weight_B = mix.weight.to(own_B)
        if self.config.mixed == "batch":
            keys_GD, _ = gather_rows(key_BD)
            named_B = (query_BD @ keys_GD.T / self.config.temperature).logsumexp(1)
        else:
            # An image mixed with itself has one key, not the same key twice.
            apart_B = mix.partner.to(own_B.device) != torch.arange(len(own_B), device=own_B.device)
            named_B = torch.where(apart_B, torch.logaddexp(own_B, other_B), own_B)
        mixed_B = torch.logaddexp(named_B, queue_B) - weight_B * own_B - (1 - weight_B) * other_B
        own_alone_B, other_alone_B = (torch.logaddexp(key_B, queue_B) - key_B for key_B in (own_B, other_B))
        return torch.where(weight_B == 1, own_alone_B, torch.where(weight_B == 0, other_alone_B, mixed_B))

    def scores(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pair: Pair
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (B, 1 + K) of the own key and of the queue; the label is 0."""
        own_B = self._positive(online[pair.online], target[pair.target])
        queue_BK = online[pair.online] @ self.queue.keys.T / self.config.temperature
        return torch.cat([own_B[:, None], queue_BK], 1), torch.zeros_like(own_B, dtype=torch.int64)

    @torch.no_grad()
    def update(self, encoded: Encoded, clock: Clock, index: Tensor) -> None:
        """Move the key encoder towards the query encoder, and queue the keys of the clean views.

        The published code moves the key encoder at the beginning of the next step instead, before any key is made: the
        keys are the same, but for those of the first step.
        """
        self.momentum.follow({"backbone": self.backbone, "projector": self.projector}, self.config.momentum)
        for slot in dict.fromkeys(pair.target for pair in self.pairs()):
            keys_GD, _ = gather_rows(encoded.target[slot])
            self.queue.push(keys_GD)


def _has_batchnorm(module: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm | BranchedBatchNorm) for m in module.modules())
