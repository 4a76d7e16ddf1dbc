"""Programs of the pair that evaluate frozen features together."""

import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from hardviews.data.index import Index
from hardviews.errors import UserError
from hardviews.evaluation.classifier_scores import logits, measured
from hardviews.evaluation.features import cache as feature_cache
from hardviews.evaluation.features.cache import FeatureKey, locked
from hardviews.evaluation.features.extract import Features, extract
from hardviews.evaluation.features.preprocess import Preprocess
from hardviews.evaluation.features.sources import Embedding, embedding
from hardviews.evaluation.held_out import held_out, names_of
from hardviews.evaluation.probe import Fitted, PeeksEach, Task
from hardviews.evaluation.probes.fewshot_svm import fit_svm
from hardviews.evaluation.probes.head_states import Heads, Training
from hardviews.evaluation.probes.knn import Knn, fit_knn
from hardviews.evaluation.probes.linear import Linear, fit_linear
from hardviews.evaluation.probes.transfer import Transfer, fit_transfer
from hardviews.models.backbones import Backbone
from hardviews.models.classifier import Classifier
from hardviews.models.encoder import Encoder
from hardviews.views.augmentation import Normalisation
from hardviews.world import ALONE, World
from tests.evaluation import sweeping


def this_world() -> World:
    if not dist.is_initialized():
        return ALONE
    return World(dist.get_rank(), dist.get_world_size(), torch.device("cpu"))


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
    task = Task(features[0], held_out(train), len(train.classes), world, names_of(train))
    found = {"train": features[0].values_ND.clone(), "test": features[1].values_ND.clone()}
    for name, fitted in (
        ("knn", fit_knn(Knn("run", neighbours=(3, 5)), task)),
        ("lbfgs", fit_linear(Linear("run", solver="lbfgs"), task)),
        ("sgd", fit_linear(Linear("run", solver="sgd", epochs=3), task)),
    ):
        found |= {f"{name} {variant}": scores for variant, scores in fitted.predict(features[1]).items()}
        found[f"{name} choice"] = torch.tensor([*fitted.choice.settings.values(), fitted.choice.held_out_top1])
    random = torch.Generator().manual_seed(0)
    head = Classifier(torch.randn(3, features[1].values_ND.shape[1], generator=random), torch.zeros(3))
    found["classify"] = logits(head, features[1].values_ND, world.device)
    classified = measured(found["classify"], features[1].labels_N).metrics
    found["classify metrics"] = torch.tensor([*classified.values()], dtype=torch.double)
    return found | of_several_classes(features, task), encoded


def of_several_classes(features: list[Features], task: Task) -> dict[str, Tensor]:
    """Return scores and choices of protocols for the same images with made-up sets of classes."""
    train, test = (replace(part, sets_NL=made_up_sets(part)) for part in features)
    task = replace(task, train=train)
    found: dict[str, Tensor] = {}
    fitted: Fitted
    for name, fitted in (
        ("sets knn", fit_knn(Knn("run", neighbours=(3, 5)), task)),
        ("sets transfer", fit_transfer(Transfer("run", sets=("x",), weights_l2=(10.0, 1.0)), task)),
        ("svm", fit_svm(task, (1, 2), draws=2, costs=(0.1, 1.0), full=True)),
    ):
        for variant, scores in fitted.predict(test).items():
            found[f"{name} {variant}"] = scores if isinstance(scores, Tensor) else torch.stack(list(scores))
        found[f"{name} choice"] = torch.tensor([*fitted.choice.settings.values(), fitted.choice.held_out_top1 or 0.0])
        if isinstance(fitted, PeeksEach):
            found[f"{name} peeks"] = torch.tensor([*fitted.peeks(test).values()])
    return found


def made_up_sets(part: Features) -> Tensor:
    """Return a set for each image: its class, the next one for every third image, and one that is ignored."""
    sets_NL = F.one_hot(part.labels_N, 3).to(torch.int8)
    sets_NL[::3] |= sets_NL[::3].roll(1, 1)
    sets_NL[::5, 2] = -1
    return sets_NL


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


def writes(caches: tuple[str, str], held_by_another: int | None = None) -> tuple[bool, int]:
    """Return whether this rank writes the features of a dataset, and how often it had to try again.

    held_by_another: the rank for whose file another evaluation has the lock, until somebody waits for it.
    """
    world = this_world()
    os.environ["HARDVIEWS_CACHE"] = cache = caches[world.rank]
    key = FeatureKey("map", "data", 16, 16, "float32", "cpu", 8)
    tries = 0
    with ExitStack() as other:
        if world.rank == held_by_another:
            os.makedirs(f"{cache}/features", exist_ok=True)
            lock = other.enter_context(open(f"{cache}/features/{key.digest}.lock", "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)

        def again() -> None:
            nonlocal tries
            tries += 1
            other.close()

        with patch.object(feature_cache, "advanced", again), locked(key, 8, 16, world) as file:
            return file is not None, tries


def unusable(caches: tuple[str, str]) -> str:
    try:
        writes(caches)
    except UserError as error:
        return str(error)
    return ""


class Stopped(Exception):
    """Both processes end here, as if they were killed."""


def swept(url: str, cache: str, stop: int = 0) -> tuple[dict[str, Tensor], int]:
    """Fit a sweep on random crops; return its numbers, of this rank's heads, and how many images this rank encoded.

    stop: step after which both processes end; then there are no numbers, and their files stay.
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
