"""A small sweep of heads on random crops, for tests in this process, in one that is killed, and in a pair of them."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from hardviews.data.index import Index
from hardviews.evaluation.features.crops import Images
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.readings import readings_of
from hardviews.evaluation.features.sources import Embedding, embedding
from hardviews.evaluation.held_out import held_out
from hardviews.evaluation.linear_protocol import LinearProtocol
from hardviews.evaluation.probe import Task
from hardviews.evaluation.probes.head_states import open_states
from hardviews.evaluation.probes.linear_protocols import DINOV2
from hardviews.evaluation.probes.on_crops import FittedOnCrops, Sweep, fit_on_crops
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder
from hardviews.views.augmentation import Normalisation
from hardviews.world import ALONE, World

SMALL = replace(DINOV2, steps=7, batch=20, rates=(1e-3, 0.1, 3.0))
"""DINOv2's four readings with three rates."""


def small_vit() -> Embedding:
    torch.manual_seed(0)
    backbone = Backbone("vit_tiny_patch16_224", image_size=16, patch_size=8)
    return embedding("pretrained", Encoder(backbone, Normalisation(), None, 16).eval())


def sweep_of(
    index: Index,
    protocol: LinearProtocol = SMALL,
    kind: Embedding | None = None,
    world: World = ALONE,
    every: float = 60.0,
    peek: bool = False,
    embed: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] | None = None,
) -> Sweep:
    """embed: called instead of the map of images to features, with this map and the images."""
    kind = kind or small_vit()
    readings = readings_of(protocol, kind)
    read = readings.embedding(kind)
    if embed is not None:
        read = replace(read, embed=lambda images, plain=read.embed: embed(plain, images))
    images = Images(index, read, Preprocess(16, 16), micro_batch=8, workers=1)
    return Sweep(protocol, readings, images, 3, world, open_states("timm:none", world, every), 0, peek)


def task_of(sweep: Sweep) -> Task:
    index = sweep.images.index
    return Task(Features.unread(index), held_out(index), 3, sweep.world)


def fitted(sweep: Sweep, refit: bool = True) -> FittedOnCrops:
    return fit_on_crops(sweep, task_of(sweep), refit)


def numbers(found: FittedOnCrops) -> dict[str, Tensor]:
    """Return the weights of the chosen head and of this rank's candidates, and the choice."""
    tensors = {"chosen": found.chosen.classifier.weight_DL, "bias": found.chosen.classifier.bias_L}
    tensors |= {f"{number}": one.classifier.weight_DL for number, one in found.trained.mine.items()}
    settings = [*found.choice.settings.values(), found.choice.held_out_top1 or 0.0]
    return tensors | {"choice": torch.tensor(settings)}


def main(url: str, batches: int) -> None:
    """Fit, and be killed when so many micro-batches were encoded."""
    seen = 0

    def embed(plain: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        if seen == batches:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(images)

    torch.set_num_threads(1)
    fitted(sweep_of(Index.load(url), every=0.0, peek=True, embed=embed))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
