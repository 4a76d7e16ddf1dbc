"""What the pair runs to evaluate frozen features together."""

import os
from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.evaluation.features import Features, extract
from hardviews.evaluation.head_states import Heads, Training
from hardviews.evaluation.held_out import held_out
from hardviews.evaluation.knn import Knn, fit_knn
from hardviews.evaluation.linear import Linear, fit_linear
from hardviews.evaluation.preprocess import Preprocess
from hardviews.evaluation.probe import Task
from hardviews.evaluation.sources import Embedding, embedding
from hardviews.models.backbones import Backbone
from hardviews.models.encoder import Encoder
from hardviews.views.augmentation import Normalisation
from hardviews.world import ALONE, World
from tests.evaluation import sweeping


def this_world() -> World:
    if not dist.is_initialized():
        return ALONE
    return World(dist.get_rank(), dist.get_world_size(), torch.device("cpu"), dist.get_rank() == 0)


def small_encoder() -> Embedding:
    torch.manual_seed(0)
    encoder = Encoder(Backbone("resnet10t", small_stem=True), Normalisation(), None, 16).eval()
    return embedding("pretrained", encoder)


def evaluated(train_url: str, test_url: str, cache: str) -> tuple[dict[str, Tensor], int]:
    """Return features, scores and choices of all protocols, and how many images this rank encoded."""
    os.environ["HARDVIEWS_CACHE"] = cache
    world, kind = this_world(), small_encoder()
    encoded = 0

    def embed(images: Tensor) -> Tensor:
        nonlocal encoded
        encoded += len(images)
        return kind.embed(images)

    counted = Embedding("pretrained", kind.digest, embed)
    train, test = Index.load(train_url), Index.load(test_url)
    features = [extract(index, counted, Preprocess(16, 16), world, batch_size=8) for index in (train, test)]
    task = Task(features[0], held_out(train), len(train.classes), world)
    found = {"train": features[0].values_ND.clone(), "test": features[1].values_ND.clone()}
    for name, fitted in (
        ("knn", fit_knn(Knn("run", neighbours=(3, 5)), task)),
        ("lbfgs", fit_linear(Linear("run", solver="lbfgs"), task)),
        ("sgd", fit_linear(Linear("run", solver="sgd", epochs=3), task)),
    ):
        found |= {f"{name} {variant}": scores for variant, scores in fitted.predict(features[1]).items()}
        found[f"{name} choice"] = torch.tensor([*fitted.choice.settings.values(), fitted.choice.held_out_top1])
    return found, encoded


def refused(train_url: str, cache: str) -> str:
    """Meet an image that only one rank reads and cannot decode."""
    os.environ["HARDVIEWS_CACHE"] = cache
    world = this_world()
    kind = Embedding("pixels", "pixels", lambda images: images.float().flatten(1))

    class Picky(Preprocess):
        def __call__(self, data: bytes) -> Tensor:
            if world.rank == 1:
                raise UserError("this image is broken")
            return super().__call__(data)

    try:
        extract(Index.load(train_url), kind, Picky(16, 16), world, batch_size=8)
    except UserError as error:
        return str(error)
    return ""


class Stopped(Exception):
    """Both processes end here, as if they were killed."""


def swept(url: str, cache: str, stop: int = 0) -> tuple[dict[str, Tensor], int]:
    """Fit a sweep on random crops; return its numbers, of this rank's heads, and how many images this rank encoded.

    stop: step after which both processes end; then there are no numbers, and what they kept stays.
    """
    os.environ["HARDVIEWS_CACHE"] = cache
    encoded = 0

    def embed(plain: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        nonlocal encoded
        encoded += len(images)
        return plain(images)

    def keep(training: Training, step: int, mine: Heads) -> None:
        plain_keep(training, step, mine)
        if step == stop:
            raise Stopped

    sweep = sweeping.sweep_of(Index.load(url), world=this_world(), every=0.0, peek=True, embed=embed)
    plain_keep = Training.keep
    with patch.object(Training, "keep", keep):
        try:
            fitted = sweeping.fitted(sweep)
        except Stopped:
            return {}, encoded
    test = Features(torch.randn(9, sweep.width, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3)
    found = sweeping.numbers(fitted) | {"scores": fitted.predict(test)[""], "peek": torch.tensor(fitted.peek(test))}
    sweep.states.clear()
    return found, encoded
