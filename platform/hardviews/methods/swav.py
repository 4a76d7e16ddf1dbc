"""SwAV: a view predicts the assignment of another view of its image to prototypes.

Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (NeurIPS 2020, arXiv
2006.09882), equations 1 to 6. The settings come from the authors' scripts.

Shape legend: B samples of this rank, G samples of all ranks, D width, K prototypes, V views, P pairs, N rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from hardviews.batch import Batch, Samples, View
from hardviews.checked import above, at_least, require
from hardviews.clock import Clock
from hardviews.collectives import gather_rows, order_of_rows
from hardviews.encoded import Encoded
from hardviews.full_precision import full_precision
from hardviews.methods.each import each_view
from hardviews.methods.heads import mlp
from hardviews.methods.method import Method, MethodConfig
from hardviews.methods.sinkhorn import sinkhorn
from hardviews.methods.swav_queue import EmbeddingQueue
from hardviews.views.augmentation import Augmentation, swav_global, swav_local
from hardviews.views.plan import Pair, Plan, Pool, Slot

GLOBALS = (Slot("global", 0), Slot("global", 1))


@dataclass(frozen=True)
class SwAVConfig(MethodConfig):
    """SwAV's head, prototypes, codes, queue and views; the defaults are for ResNet-50 on ImageNet, batch 4096.

    At batch 256 the authors take queue=3840 and freeze=5005.

    Attributes:
        hidden: width of the head's hidden layer.
        output: width of the embedding and of the prototypes.
        prototypes: number of prototypes.
        temperature: temperature of the predictions.
        epsilon: smoothness of the codes; smaller is sharper. Take 0.03 if the loss stays at the logarithm of
            `prototypes`.
        iterations: iterations of Sinkhorn-Knopp.
        queue: number of past embeddings that join the batch for its assignment; 0 for none.
        queue_from: epoch, counted from 0, in which the queue begins to fill; it is used once it is full.
        freeze: steps at the start of the training in which the prototypes do not change.
        locals: number of small views, which predict and are not predicted.
        view: distribution of the two full-size views.
        local: distribution of the small views.
    """

    hidden: int = 2048
    output: int = 128
    prototypes: int = 3000
    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    queue: int = 0
    queue_from: int = 15
    freeze: int = 313
    locals: int = 6
    view: Augmentation = field(default_factory=swav_global)
    local: Augmentation = field(default_factory=swav_local)

    def __post_init__(self) -> None:
        """Refuse settings without a valid assignment."""
        require(
            self,
            "method",
            hidden=at_least(1),
            output=at_least(1),
            prototypes=at_least(2),
            temperature=above(0),
            epsilon=above(0),
            iterations=at_least(1),
            queue=at_least(0).note("0 for none"),
            queue_from=at_least(0),
            freeze=at_least(0),
            locals=at_least(0),
        )

    def build(self, backbone: nn.Module, features: int) -> "SwAV":
        """Build the method over a backbone of that many features."""
        return SwAV(self, backbone, features)


class SwAV(Method):
    """Swapped prediction: the codes of each full-size view against the predictions of all other views."""

    own_normalisation = True

    def __init__(self, config: SwAVConfig, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = mlp([features, config.hidden, config.output], last_norm=False)
        self.prototypes = nn.Linear(config.output, config.prototypes, bias=False)
        self._project_prototypes()
        self.queue = EmbeddingQueue(config.queue, config.output)

    def plan(self) -> Plan:
        """Return two full-size views, and the small ones."""
        pools = [Pool("global", 2, self.config.view)]
        if self.config.locals:
            pools.append(Pool("local", self.config.locals, self.config.local, target=False))
        return Plan(tuple(pools))

    def pairs(self) -> tuple[Pair, ...]:
        """Return each full-size view's codes with every other view: a mean over views of a mean over codes."""
        slots = self.plan().slots
        weight = 1 / (len(GLOBALS) * (len(slots) - 1))
        return tuple(Pair(view, code, weight) for view in slots for code in GLOBALS if view != code)

    def frozen(self, clock: Clock) -> Sequence[nn.Module]:
        """Return the prototypes, during the first steps."""
        return (self.prototypes,) if clock.step < self.config.freeze else ()

    def encode(self, batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        """Return unit embeddings (B, D) online and codes (B, K) as targets, both from one forward of a view."""
        seen = {slot: batch.online(slot) for slot in online}
        shown = {slot: batch.views[slot] for slot in target}
        embedded = each_view(self, self.embed, (*seen.values(), *shown.values()))
        codes = self._codes([embedded[view] for view in shown.values()], batch.clock)
        return Encoded({slot: embedded[view] for slot, view in seen.items()}, dict(zip(shown, codes, strict=True)))

    def features(self, batch: Batch, views: Sequence[View]) -> dict[View, Tensor]:
        """Return the backbone's features of views; those of one pool move running statistics once."""
        return each_view(self, self.backbone, views)

    @property
    def exported_head(self) -> nn.Module:
        """The projector."""
        return self.projector

    def embed(self, pixels: Tensor) -> Tensor:
        """Return unit embeddings (B, D)."""
        return normalize(full_precision(self.projector(self.backbone(pixels))), dim=1)

    @torch.no_grad()
    def _codes(self, views_BD: Sequence[Tensor], clock: Clock) -> list[Tensor]:
        """Assign each view's embeddings by themselves, over the samples of all ranks and the queue."""
        if not views_BD:
            return []
        rows_GVD, first = gather_rows(torch.stack(list(views_BD), 1))
        own = slice(first, first + len(views_BD[0]))
        queued_ND, present_N = rows_GVD[:0, 0], None
        if self.config.queue and clock.epoch >= self.config.queue_from:
            queued_ND = self.queue.rows
            present_N = torch.cat([torch.ones_like(rows_GVD[:, 0, 0], dtype=torch.bool), self.queue.present()])
        codes = []
        for rows_GD in rows_GVD.unbind(1):
            scores_NK = self._scores(torch.cat([rows_GD, queued_ND]))
            codes_NK = sinkhorn(scores_NK, self.config.epsilon, self.config.iterations, present_N)
            codes.append(codes_NK[own].clone())  # a slice would keep the codes of all ranks in memory
        return codes

    def _scores(self, embeddings_ND: Tensor) -> Tensor:
        """Return cosines with the prototypes (N, K), in full precision: they are divided by epsilon.

        Lengths are constants of the gradient, as published. So it has a part along each prototype. `update` removes
        this part from the weights, but it counts when LARC divides by the gradient's length.
        """
        weights_KD = full_precision(self.prototypes.weight)
        with torch.autocast(embeddings_ND.device.type, enabled=False):
            scores_NK: Tensor = embeddings_ND @ (weights_KD / weights_KD.detach().norm(dim=1, keepdim=True)).T
        return scores_NK

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return the cross-entropies (P, B), equation 2: one product with the prototypes for each online view."""
        slots = dict.fromkeys(pair.online for pair in pairs)
        logs = {slot: log_softmax(self._scores(online[slot]) / self.config.temperature, 1) for slot in slots}
        return torch.stack([-(target[pair.target] * logs[pair.online]).sum(1) for pair in pairs])

    def scores(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pair: Pair
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) over the prototypes, and the prototype (B,) with the largest share of the code."""
        return self._scores(online[pair.online]) / self.config.temperature, target[pair.target].argmax(1)

    @torch.no_grad()
    def update(self, encoded: Encoded, clock: Clock, samples: Samples) -> None:
        """Bring the prototypes back to unit length, and put the clean first views into the queue.

        One queue serves both views, which have one distribution. So a view's code does not depend on the slot in which
        a selection considers it.
        """
        self._project_prototypes()
        if self.config.queue and clock.epoch >= self.config.queue_from:
            rows_GD, _ = gather_rows(encoded.online[GLOBALS[0]])
            self.queue.push(rows_GD[order_of_rows(samples.position, rows_GD.device)])

    @torch.no_grad()
    def _project_prototypes(self) -> None:
        self.prototypes.weight.copy_(normalize(self.prototypes.weight, dim=1))
