"""DeepCluster-v2: every view predicts the cluster that its image had before the epoch began.

Caron et al., "Deep Clustering for Unsupervised Learning of Visual Features" (ECCV 2018), in the second version by Caron
et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (NeurIPS 2020, arXiv 2006.09882),
appendix. The settings come from its authors' scripts.

Shape legend: B samples of this rank, N rows of the data set, H heads, K clusters, D width, P pairs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from hardviews.batch import Batch, Mix, Samples, View, entropy
from hardviews.checked import above, at_least, require
from hardviews.clock import Clock
from hardviews.encoded import Encoded
from hardviews.errors import UserError
from hardviews.full_precision import full_precision
from hardviews.methods.each import each_view
from hardviews.methods.heads import mlp
from hardviews.methods.kmeans import ABSENT, draw_rows, spherical_kmeans
from hardviews.methods.memory_bank import MemoryBank
from hardviews.methods.method import Method, MethodConfig
from hardviews.models.batchnorm import normalising
from hardviews.models.noise import without_noise
from hardviews.views.augmentation import Augmentation, swav_global, swav_local
from hardviews.views.plan import Pair, Plan, Pool, Slot

REMEMBERED = (Slot("global", 0), Slot("global", 1))
TABLE = Slot("table", 0)


@dataclass(frozen=True)
class DeepClusterConfig(MethodConfig):
    """DeepCluster-v2's head, clusters and views; the defaults are for ResNet-50 on ImageNet.

    Attributes:
        hidden: width of the projection's hidden layer.
        output: width of the embedding and of the centroids.
        heads: number of clusterings, each with labels of its own.
        clusters: number of clusters of each clustering.
        iterations: iterations of k-means.
        temperature: temperature of the cosines with the centroids.
        locals: number of small views.
        view: distribution of the two full-size views.
        local: distribution of the small views.
    """

    hidden: int = 2048
    output: int = 128
    heads: int = 3
    clusters: int = 3000
    iterations: int = 10
    temperature: float = 0.1
    locals: int = 6
    view: Augmentation = field(default_factory=swav_global)
    local: Augmentation = field(default_factory=swav_local)

    def __post_init__(self) -> None:
        """Refuse clusterings without a choice of clusters."""
        require(
            self,
            "method",
            hidden=at_least(1),
            output=at_least(1),
            heads=at_least(1),
            clusters=at_least(2),
            iterations=at_least(0),
            temperature=above(0),
            locals=at_least(0),
        )

    def build(self, backbone: nn.Module, features: int) -> "DeepCluster":
        """Build the method over a backbone of that many features."""
        return DeepCluster(self, backbone, features)


class DeepCluster(Method):
    """All views against fixed clusters of the embeddings of random views in the previous epoch.

    Centroids and labels are constant for an epoch and get no gradient. A sample that was never seen has no label.
    """

    own_normalisation = True
    rowwise_targets = True  # rows of a table
    unselected_state = True  # hard views in the bank would distort the clusters of the next epoch

    centroids: Tensor
    labels: Tensor

    def __init__(self, config: DeepClusterConfig, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.projector = mlp([features, config.hidden, config.output], last_norm=False)
        self.bank = MemoryBank(len(REMEMBERED), config.output)
        self.register_buffer("centroids", normalize(torch.randn(config.heads, config.clusters, config.output), dim=2))
        self.register_buffer("labels", torch.zeros(config.heads, 0, dtype=torch.int64))

    def allocate(self, samples: int) -> None:
        """Make room in the bank and in the table of labels."""
        self._check(samples, "The dataset has")
        self.bank.allocate(samples)
        self.labels = self.labels.new_full((self.config.heads, samples), ABSENT)

    def check_epoch(self, samples: int) -> None:
        """Refuse epochs with fewer samples than clusters, which are made of an epoch's samples."""
        self._check(samples, "The dataset has, in whole batches,")

    def plan(self) -> Plan:
        """Return two full-size views, and the small ones."""
        pools = [Pool("global", len(REMEMBERED), self.config.view)]
        if self.config.locals:
            pools.append(Pool("local", self.config.locals, self.config.local, target=False))
        return Plan(tuple(pools))

    def pairs(self) -> tuple[Pair, ...]:
        """Return every view with the table: the mean over views."""
        slots = self.plan().slots
        return tuple(Pair(slot, TABLE, 1 / len(slots)) for slot in slots)

    def encode(self, batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        """Return unit embeddings (B, D) online, and the samples' clusters (B, H) as the one target."""
        views = {slot: batch.online(slot) for slot in online}
        embedded = each_view(self, self.embed, views.values())
        return Encoded({slot: embedded[view] for slot, view in views.items()}, {TABLE: self._labels(batch).T})

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

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return the cross-entropies (P, B), each the mean over heads; 0 where a label is absent.

        One product of each view with the centroids of all heads.
        """
        logits = {slot: self._logits(online[slot]) for slot in dict.fromkeys(pair.online for pair in pairs)}
        losses = []
        for pair in pairs:
            labels_BH = target[pair.target]
            losses_BH = cross_entropy(
                logits[pair.online].flatten(0, 1), labels_BH.flatten(), ignore_index=ABSENT, reduction="none"
            ).view_as(labels_BH)
            losses.append(losses_BH.mean(1))
        return torch.stack(losses)

    def mixed_floor(self, target: Mapping[Slot, Tensor], pair: Pair, mix: Mix) -> Tensor:
        """Return the entropy (B,) of both clusters' shares, the mean over heads: 0 if both are the same cluster."""
        labels_BH = target[pair.target]
        differ_BH = labels_BH != labels_BH[mix.partner.to(labels_BH.device, non_blocking=True)]
        return differ_BH.float().mean(1) * entropy(mix).to(labels_BH.device, torch.float32, non_blocking=True)

    def valid(self, batch: Batch, kind: str = "class") -> Tensor:
        """Return which samples have clusters: all heads cluster the same rows."""
        return self._labels(batch)[0] != ABSENT

    def scores(
        self, batch: Batch, online: Mapping[Slot, Tensor], target: Mapping[Slot, Tensor], pair: Pair
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) over the first head's clusters, and the sample's own (B,), -100 if it has none."""
        return self._logits(online[pair.online])[:, 0], target[pair.target][:, 0]

    def update(self, encoded: Encoded, clock: Clock, samples: Samples) -> None:
        """Store the embeddings of the two full-size random views."""
        self.bank.write(_remembered(encoded), samples)

    @torch.no_grad()
    def begin_epoch(self, clock: Clock, batches: Callable[[], Iterator[Batch]]) -> None:
        """Fill the empty rows of the bank, and cluster it again for every head: head h clusters bank h mod 2.

        The same bank always gives the same clusters. The pass that fills the bank normalises as in training, but does
        not move running statistics, and draws nothing: dropout and stochastic depth are off.
        """
        if not self.bank.seen.any():
            with normalising(self, "main", update=False), without_noise(self):
                written_N = self.bank.unwritten()
                for batch in batches():
                    self.bank.write(_remembered(self.encode(batch, REMEMBERED, [])), batch.samples, written_N)
        seen_N, clusters = self.bank.seen, self.config.clusters
        # This is less than an epoch's samples if some replace corrupt ones.
        self._check(int(seen_N.sum()), "The dataset has, in whole batches and not corrupt,")
        for head in range(self.config.heads):
            rows_ND = self.bank.rows[head % len(REMEMBERED)]
            start_KD = rows_ND[draw_rows(clock.seed, clock.epoch, head, seen_N, clusters)]
            centroids_KD, labels_N = spherical_kmeans(rows_ND, seen_N, start_KD, self.config.iterations)
            self.centroids[head] = centroids_KD
            self.labels[head] = labels_N

    def _labels(self, batch: Batch) -> Tensor:
        return self.labels[:, batch.index.to(self.labels.device, non_blocking=True)]

    def _logits(self, embeddings_BD: Tensor) -> Tensor:
        """Return the cosines with all centroids over the temperature (B, H, K), in full precision."""
        with torch.autocast(embeddings_BD.device.type, enabled=False):
            cosines = embeddings_BD @ self.centroids.flatten(0, 1).T
        logits: Tensor = (cosines / self.config.temperature).view(-1, *self.centroids.shape[:2])
        return logits

    def _check(self, samples: int, where: str) -> None:
        if samples < self.config.clusters:
            raise UserError(
                f"{where} {samples} images, fewer than the {self.config.clusters} clusters that DeepCluster is to "
                f"make of them: lower --method.clusters to at most {samples}, or pack more images."
            )


def _remembered(encoded: Encoded) -> Tensor:
    """Return the embeddings that the bank keeps of each sample (B, V, D)."""
    return torch.stack([encoded.online[slot] for slot in REMEMBERED], 1)
