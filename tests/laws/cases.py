"""Cases on which the laws are tested: add a method or a strategy by adding its name here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from hardviews.batch import Batch, Samples, View
from hardviews.clock import Clock
from hardviews.methods.barlowtwins import BarlowTwinsConfig
from hardviews.methods.byol import BYOLConfig
from hardviews.methods.deepcluster import DeepCluster, DeepClusterConfig
from hardviews.methods.dino import DINOConfig
from hardviews.methods.ibot import IBOTConfig
from hardviews.methods.joint import JointConfig, Part
from hardviews.methods.method import Method
from hardviews.methods.moco import MoCoConfig
from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.methods.supervised import SupervisedConfig
from hardviews.methods.swav import SwAVConfig
from hardviews.methods.vicreg import VICRegConfig
from hardviews.models.batchnorm import normalising
from hardviews.objective.objective import Objective
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.all_pairs import AllPairs
from hardviews.strategies.compose import Chain, Sum, Weighted
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.least_overlap import LeastOverlap
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.more_views import MoreViews
from hardviews.strategies.predicted_views import PredictedViews
from hardviews.strategies.random_views import RandomViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.train.composition import check
from hardviews.train.recipe import Training
from hardviews.views.augmentation import Augmentation
from hardviews.views.params import draw
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot
from tests.laws import toys

SIZE, GROUP, SAMPLES = 16, 4, 8
ROWS = 128  # of the data set
CLASSES = 7
VIEW, LOCAL = Augmentation(size=SIZE), Augmentation(size=SIZE // 2)


class ConvNet(nn.Module):
    """Two convolutions with BatchNorm: the smallest network that BatchNorm's laws bite on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu().mean((2, 3))


def vit() -> nn.Module:
    """A ViT with stochastic depth, so that laws about noise bite too."""
    return VisionTransformer(
        img_size=SIZE,
        patch_size=8,
        num_classes=0,
        embed_dim=32,
        depth=2,
        num_heads=2,
        mlp_ratio=2.0,
        drop_path_rate=0.2,
        dynamic_img_size=True,
    )


@dataclass(frozen=True)
class Network:
    build: Callable[[], nn.Module]
    features: int


NETWORKS = {"batchnorm": Network(ConvNet, 12), "vit": Network(vit, 32)}


class Clustered(DeepCluster):
    """With clusters as an epoch finds them, some rows of the table absent."""

    def allocate(self, samples: int) -> None:
        super().allocate(samples)
        place = torch.arange(samples)
        for head in range(self.config.heads):
            self.labels[head] = (place // (head + 1) + head) % self.config.clusters
        self.labels[:, ::5] = -100


CLUSTERS = DeepClusterConfig(
    hidden=16, output=8, heads=3, clusters=10, temperature=0.2, locals=2, view=VIEW, local=Augmentation(size=8)
)


@dataclass(frozen=True)
class ClusteredConfig(DeepClusterConfig):
    """DeepCluster's settings, for a sum of methods."""

    def build(self, backbone: nn.Module, features: int) -> DeepCluster:
        return Clustered(self, backbone, features)


SIMCLR = SimCLRConfig(hidden=16, output=8, temperature=0.2, view=VIEW)
SUPERVISED = SupervisedConfig(classes=CLASSES, smoothing=0.1, view=VIEW)

METHODS: dict[str, Callable[[nn.Module, int], Method]] = {
    # Queues of sizes that the batches do not divide.
    "moco": MoCoConfig(hidden=16, output=8, queue=12, momentum=0.9, view=VIEW).build,
    "moco_symmetric": MoCoConfig(
        hidden=16, output=8, queue=20, momentum=0.9, batchnorm="all", symmetric=True, mixed_labels="batch", view=VIEW
    ).build,
    "simsiam": SimSiamConfig(width=16, layers=2, bottleneck=8, view=VIEW).build,
    "simclr": SIMCLR.build,
    "byol": BYOLConfig(hidden=16, output=8, first=VIEW, second=VIEW).build,
    "vicreg": VICRegConfig(width=16, layers=2, first=VIEW, second=VIEW).build,
    "barlowtwins": BarlowTwinsConfig(width=8, layers=2, first=VIEW, second=VIEW).build,
    "swav": SwAVConfig(
        hidden=16, output=8, prototypes=10, queue=8, queue_from=1, locals=2, view=VIEW, local=Augmentation(size=8)
    ).build,
    "deepcluster": partial(Clustered, CLUSTERS),
    "dino": DINOConfig(
        hidden=16, bottleneck=8, outputs=10, norm_last_layer=False, locals=2, even=VIEW, odd=VIEW, local=LOCAL
    ).build,
    # On a grid of 4 x 4 patches.
    "ibot": IBOTConfig(
        hidden=16,
        bottleneck=8,
        outputs=10,
        shared_head=False,
        locals=1,
        even=Augmentation(size=2 * SIZE),
        odd=Augmentation(size=2 * SIZE),
        local=VIEW,
    ).build,
    "supervised": SUPERVISED.build,
    # Some images have no label.
    "joint": JointConfig((Part(1.0, SIMCLR), Part(0.5, SUPERVISED))).build,
    # Two kinds of labels that other images lack, groups of BatchNorm, small views, a queue and a bank.
    "joint_crops": JointConfig(
        (
            Part(0.5, ClusteredConfig(**vars(CLUSTERS))),
            Part(1.0, SUPERVISED),
            Part(0.7, MoCoConfig(hidden=16, output=8, queue=12, momentum=0.9, mixed_labels="separate", view=VIEW)),
        )
    ).build,
    "toy_queue": toys.ToyQueue,
    "toy_centre": toys.ToyCentre,
    "toy_masked": toys.ToyMasked,
    "toy_sinkhorn": toys.ToySinkhorn,
    "toy_clusters": toys.ToyClusters,
}

# Methods whose mixed labels compete in one softmax. A label without weight is not a candidate: law 4 differs.
JOINT_LABELS = {"moco", "moco_symmetric"}

#: The networks of methods that do not take all, the first one if none is named.
SERVED: dict[str, tuple[str, ...]] = {"ibot": ("vit",)}

#: Strategies, by name or kind, that a method refuses.
REFUSED: dict[str, tuple[str, ...]] = {
    "ibot": ("mixup", "lambda one, blended", "growing"),
    # It has one view.
    "supervised": (
        *("least_overlap", "predicted_views", "overlap", "predicted"),
        *("as many candidates as slots, by overlap", "as many candidates as slots, predicted"),
    ),
}

STRATEGIES: dict[str, Strategy] = {
    "clean": Clean(),
    "hard_views": HardViews(4),
    "random_views": RandomViews(4),
    "least_overlap": LeastOverlap(4),
    "predicted_views": PredictedViews(4, warm_up=1),
    "all_pairs": AllPairs(4),
    "more_views": MoreViews(1.5),
    "fgsm": Adversarial(4 / 255),
    "pgd": Adversarial(4 / 255, steps=2),
    "cutmix": CutMix(),
    "mixup": MixUp(scope="sample"),
    "hexa": Sum((1.0, Clean()), (0.5, Adversarial(4 / 255)), (0.25, CutMix())),
    "along_clean": Sum((1.0, Clean()), (0.5, Adversarial(4 / 255, branch="main", gradient="clean")), (0.25, CutMix())),
    "in_turn": Sum((1.0, Clean()), (2.0, InTurn(Adversarial(4 / 255, gradient="clean"), CutMix())), average=True),
    "everything": Chain(HardViews(4), Sum((1.0, Clean()), (0.5, Adversarial(4 / 255)), (0.25, CutMix()))),
    "growing": Sum((1.0, Clean()), Weighted(0.5, Adversarial(4 / 255), ramp=0.05), Weighted(0.5, MixUp(), begin=1)),
    "mix_then_attack": Chain(CutMix(), Adversarial(4 / 255)),
}


def networks(method: str) -> tuple[str, ...]:
    """Return the networks that a method is tested on."""
    return SERVED.get(method, tuple(NETWORKS))


def applies(case: Mapping[str, object]) -> bool:
    """Return whether a test's parameters name a method together with a network and a strategy that it takes."""
    method = case.get("method")
    if not isinstance(method, str) or method not in METHODS:
        return True
    kinds = ("strategy", "nothing", "selection")
    if any(case.get(kind) == refused for kind in kinds for refused in REFUSED.get(method, ())):
        return False
    return case.get("network", networks(method)[0]) in networks(method)


def build(method: str, strategy: Strategy, network: str | None = None, seed: int = 0) -> Objective:
    """Build an objective with weights that depend on the seed alone, by default on the method's first network."""
    torch.manual_seed(seed)
    chosen = NETWORKS[network or networks(method)[0]]
    made = METHODS[method](chosen.build(), chosen.features)
    check(made, strategy, Training())
    objective = Objective(made, strategy)
    objective.method.allocate(ROWS)
    return objective.train()


def online_encodings(objective: Objective, batch: Batch) -> dict[Slot, Any]:
    """Encode the views in the online slots of a batch, without gradient and without a trace."""
    slots = list(dict.fromkeys(pair.online for pair in objective.pairs))
    with torch.no_grad(), torch.random.fork_rng(), normalising(objective.method, "main", update=False):
        return dict(objective.method.encode(batch, slots, []).online)


def make_batch(objective: Objective, samples: int = SAMPLES, first: int = 0, step: int = 0, seed: int = 0) -> Batch:
    """Make a batch of random pictures; sample i of the data set always looks the same."""
    position = torch.arange(first, first + samples)
    clock = Clock(seed=seed, epoch=1, step=step, progress=step * samples, total=100 * samples)
    views = {}
    for slot in objective.plan.candidates:
        pool = objective.plan.pool(slot.pool)
        size, number = pool.augmentation.size, objective.plan.view_number(slot)
        pictures = [picture(int(p), number, size) for p in position]
        rows = draw(pool.augmentation, seed, clock.epoch, position.numpy(), number, *np.full((2, samples), 4 * SIZE))
        normalisation = pool.augmentation.normalisation
        views[slot] = View(
            slot,
            Crops(torch.stack(pictures), normalisation),
            normalisation,
            rows=torch.from_numpy(rows),
            target=pool.target,
            mask=objective.method.mask(slot, number, clock, position),
        )
    index = position + 3
    # Some images have no label.
    labels = torch.where(index % 5 == 0, -1, index % CLASSES) if objective.method.labelled else None
    return Batch(views, clock, Samples(index, position), group=GROUP, labels=labels)


def picture(position: int, number: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(position * 1000003 + number)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    picture = nn.functional.interpolate(coarse, (size, size), mode="bilinear")[0]
    return (picture * 255).round().to(torch.uint8)


def rows_of(batch: Batch, chosen: slice) -> Batch:
    """Return some of a batch's samples, which must be whole groups."""

    def cut(view: View) -> View:
        source = view.source
        assert isinstance(source, Crops)
        return replace(
            view,
            source=Crops(source.tensor[chosen], source.normalisation),
            rows=None if view.rows is None else view.rows[chosen],
            mask=None if view.mask is None else view.mask[chosen],
        )

    return replace(
        batch,
        views={slot: cut(view) for slot, view in batch.views.items()},
        samples=batch.samples[chosen],
        labels=None if batch.labels is None else batch.labels[chosen],
    )


def train_step(objective: Objective, batch: Batch, lr: float = 0.1) -> Tensor:
    """Take one whole step: loss, gradient, SGD, update."""
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr)
    losses = objective(batch, len(batch))
    losses.total.backward()
    optimizer.step()
    objective.method.update(losses.encoded, batch.clock, losses.batch.samples)
    objective.learn([losses.lesson])
    return losses.total.detach()


def state(objective: Objective) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in objective.state_dict().items()}


def assert_same_state(a: dict[str, Tensor], b: dict[str, Tensor], but: str = " ") -> None:
    assert a.keys() == b.keys()
    for name in a:
        if but not in name:
            assert torch.equal(a[name], b[name]), f"{name} differs"
