"""Five toy methods: each uses another part of the contract of the real methods."""

from copy import deepcopy
from math import isqrt

import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax, normalize, one_hot

from hardviews.collectives import gather_rows, sum_over_ranks
from hardviews.encoded import Encoded
from hardviews.methods.method import Method
from hardviews.views.augmentation import Augmentation
from hardviews.views.plan import Pair, Plan, Pool, Slot

SIZE, LOCAL, PATCH = 16, 8, 8


class Toy(Method):
    """An encoder and a linear head; online and target share the network unless there is a teacher."""

    def __init__(self, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(features, 6)
        self.view = Augmentation(size=SIZE)

    def embed(self, pixels):
        return self.head(self.backbone(pixels))


class ToyQueue(Toy):
    """MoCo's shape: ordered slots, a momentum encoder, a queue of keys as negatives."""

    def __init__(self, backbone, features):
        super().__init__(backbone, features)
        self.momentum = deepcopy(nn.ModuleList([self.backbone, self.head])).requires_grad_(False)
        self.register_buffer("queue", normalize(torch.randn(16, 6), dim=1))

    def plan(self):
        return Plan((Pool("view", 2, self.view),))

    def pairs(self):
        return (Pair(Slot("view", 0), Slot("view", 1), 1.0),)

    @property
    def teacher(self):
        return lambda pixels: normalize(self.momentum[1](self.momentum[0](pixels)), dim=1)

    def pair_loss(self, batch, online, target, pair):
        query = normalize(online, dim=1)
        logits = torch.cat([(query * target).sum(1, keepdim=True), query @ self.queue.T], 1) / 0.2
        return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="none")

    @torch.no_grad()
    def update(self, encoded, clock, samples):
        online = dict(nn.ModuleList([self.backbone, self.head]).named_parameters())
        for name, parameter in self.momentum.named_parameters():
            parameter.lerp_(online[name], 0.1)
        keys, _ = gather_rows(encoded.target[Slot("view", 1)])
        self.queue.copy_(torch.cat([keys, self.queue])[:16])


class ToyCentre(Toy):
    """DINO's shape: two pools of one global slot, local crops without targets, a centre."""

    def __init__(self, backbone, features):
        super().__init__(backbone, features)
        self.register_buffer("centre", torch.zeros(6))
        self.slots = [Slot("even", 0), Slot("odd", 0), Slot("local", 0), Slot("local", 1)]

    def plan(self):
        small = Augmentation(size=LOCAL)
        return Plan((Pool("even", 1, self.view), Pool("odd", 1, self.view), Pool("local", 2, small, target=False)))

    def pairs(self):
        return tuple(Pair(v, q, 1 / 6) for q in self.slots[:2] for v in self.slots if v != q)

    @property
    def teacher(self):
        return self.embed

    def pair_loss(self, batch, online, target, pair):
        return -(((target - self.centre) / 0.1).softmax(1) * log_softmax(online / 0.2, 1)).sum(1)

    @torch.no_grad()
    def update(self, encoded, clock, samples):
        shown = torch.cat([encoded.target[slot] for slot in self.slots[:2]])
        mean = sum_over_ranks(shown.sum(0)) / sum_over_ranks(torch.tensor(float(len(shown))))
        self.centre.lerp_(mean, 0.1)


class ToyMasked(Toy):
    """iBOT's shape: a second kind of pair, a view with itself, on masked quarters of the picture."""

    def plan(self):
        return Plan((Pool("view", 2, self.view),))

    def pairs(self):
        a, b = Slot("view", 0), Slot("view", 1)
        return Pair(a, b, 0.5), Pair(b, a, 0.5), Pair(a, a, 0.25, "patch"), Pair(b, b, 0.25, "patch")

    def mask(self, slot, number, clock, position):
        return ((position[:, None] + torch.arange(4) + number) % 3 == 0).float()

    def encode(self, batch, online, target):
        seen = {slot: self.masked(batch.online(slot)) for slot in online}
        with torch.no_grad():
            return Encoded(seen, {slot: self.embed(batch.views[slot].pixels()) for slot in target})

    def masked(self, view):
        side = isqrt(view.mask.shape[1])
        quarters = view.mask.view(-1, 1, side, side).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
        return self.embed(view.pixels() * (1 - quarters)), view.mask.mean(1)

    def pair_loss(self, batch, online, target, pair):
        logits, masked = online
        losses = -(target.softmax(1) * log_softmax(logits, 1)).sum(1)
        return losses * masked if pair.kind == "patch" else losses


class ToySinkhorn(Toy):
    """SwAV's shape: a target that depends on the whole batch, on all ranks."""

    def plan(self):
        return Plan((Pool("view", 2, self.view),))

    def pairs(self):
        a, b = Slot("view", 0), Slot("view", 1)
        return Pair(a, b, 0.5), Pair(b, a, 0.5)

    @property
    def teacher(self):
        return self.embed

    @torch.no_grad()
    def label(self, embedding):
        scores, first = gather_rows(embedding)
        plan = (normalize(scores, dim=1) / 0.3).exp()
        for _ in range(3):
            plan = plan / plan.sum(0, keepdim=True)
            plan = plan / plan.sum(1, keepdim=True)
        return plan[first : first + len(embedding)]

    def pair_loss(self, batch, online, target, pair):
        return -(target * log_softmax(online / 0.5, 1)).sum(1)


class ToyClusters(Toy):
    """DeepCluster's shape: targets from a table keyed by the data set's index, some rows of it absent."""

    TABLE = Slot("table", 0)

    def __init__(self, backbone, features):
        super().__init__(backbone, features)
        labels = torch.arange(64) % 6
        labels[::5] = -100
        self.register_buffer("labels", labels)
        self.register_buffer("bank", torch.zeros(64, 6))

    def plan(self):
        return Plan((Pool("view", 2, self.view),))

    def pairs(self):
        return tuple(Pair(Slot("view", i), self.TABLE, 0.5) for i in range(2))

    def encode(self, batch, online, target):
        seen = {slot: self.embed(batch.online(slot).pixels()) for slot in online}
        return Encoded(seen, {self.TABLE: self.labels[batch.index]})

    def pair_loss(self, batch, online, target, pair):
        labels = one_hot(target.clamp(min=0), 6).float()
        return -(labels * log_softmax(online, 1)).sum(1)

    def valid(self, batch, kind="class"):
        return self.labels[batch.index] >= 0

    @torch.no_grad()
    def update(self, encoded, clock, samples):
        rows, _ = gather_rows(encoded.online[Slot("view", 0)])
        places, _ = gather_rows(samples.index)
        self.bank[places] = rows
