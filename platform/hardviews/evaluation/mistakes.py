"""Tables of mistakes with thumbnails: the most confident ones, and the pairs of classes that are confused most.

Shape suffixes: M test samples, L classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from hardviews.data.index import Index
from hardviews.data.reader import Reader
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.features.neighbours import nearest
from hardviews.evaluation.result import Scores
from hardviews.tracking.mlflow_run import Run
from hardviews.tracking.spare import spare
from hardviews.views.decode import decode
from hardviews.world import World

MISTAKES, CONFUSIONS = "tables/mistakes.json", "tables/confusions.json"
"""Artifacts."""

_ROWS = 32  # most rows of a table: MLflow's page loads every thumbnail of it
_SIDE = 96  # pixels of a thumbnail's longer side
_CHEAP = 10**9  # numbers in the features of a training set in which the nearest images are looked for

Pixels = npt.NDArray[np.uint8]


def log_mistakes(
    run: Run, scores: Scores, trained: Features, tested: Features, train: Index, test: Index, world: World
) -> None:
    """Log both tables of the headline's predictions; they are left out if there is no mistake, or if one fails."""
    with spare(MISTAKES):
        places = most_confident(scores, tested.labels_N)
        if places:
            run.log_table(_mistakes(places, scores, trained, tested, train, test, world), MISTAKES)
    with spare(CONFUSIONS):
        pairs = confused(scores, tested.labels_N)
        if pairs:
            run.log_table(_confusions(pairs, tested, test), CONFUSIONS)


def most_confident(scores: Scores, labels_M: Tensor, most: int = _ROWS) -> list[int]:
    """Return the places of the wrong predictions of the highest confidence; of equals the first in the dataset."""
    wrong = (scores.predictions_M != labels_M).nonzero()[:, 0]
    order = scores.confidence_M[wrong].argsort(descending=True, stable=True)[:most]
    return [int(place) for place in wrong[order]]


def confused(scores: Scores, labels_M: Tensor, most: int = _ROWS) -> list[tuple[int, int, int, int]]:
    """Return true and predicted class, the number of such mistakes, and the place of the most confident one.

    The most frequent come first; of equal numbers the lower classes come first.
    """
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for place in most_confident(scores, labels_M, len(labels_M)):
        pair = int(labels_M[place]), int(scores.predictions_M[place])
        count, example = found.get(pair, (0, place))
        found[pair] = count + 1, example
    ordered = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))[:most]
    return [(true, predicted, count, example) for (true, predicted), (count, example) in ordered]


def _mistakes(
    places: list[int], scores: Scores, trained: Features, tested: Features, train: Index, test: Index, world: World
) -> list[dict[str, Any]]:
    alone = World(0, 1, world.device)
    near = None
    if 0 < trained.values_ND.numel() <= _CHEAP:  # protocols that read the images themselves have none
        near = nearest(trained.values_ND, tested.values_ND[places], 1, alone)[1][:, 0].tolist()
    shown = thumbnails(test, places)
    beside = {} if near is None else thumbnails(train, near)
    rows = []
    for number, place in enumerate(places):
        key, image = shown[place]
        row = {
            "image": image,
            "true": test.classes[int(tested.labels_N[place])],
            "predicted": test.classes[int(scores.predictions_M[place])],
            "confidence": round(float(scores.confidence_M[place]), 3),
        }
        if near is not None:
            label = train.classes[int(trained.labels_N[near[number]])]
            row |= {"nearest": beside[near[number]][1], "class of nearest": label}
        rows.append({**row, "sample": key})
    return rows


def _confusions(pairs: Sequence[tuple[int, int, int, int]], tested: Features, test: Index) -> list[dict[str, Any]]:
    shown = thumbnails(test, [example for *_, example in pairs])
    of_class = torch.bincount(tested.labels_N, minlength=len(test.classes)).tolist()
    return [
        {
            "example": shown[example][1],
            "true": test.classes[true],
            "predicted": test.classes[predicted],
            "count": count,
            "share of the true class (%)": round(100 * count / of_class[true], 1),
        }
        for true, predicted, count, example in pairs
    ]


def thumbnails(index: Index, places: Sequence[int]) -> dict[int, tuple[str, Pixels]]:
    """Return key and small picture of samples, by their places in the index.

    Raises:
        UserError, DecodeError: one cannot be read.
    """
    wanted = sorted(set(places))
    reader = Reader(index)
    try:
        samples = reader.read(wanted)
    finally:
        reader.close()
    return {place: (sample.key, _small(decode(sample.data))) for place, sample in zip(wanted, samples, strict=True)}


def _small(pixels: Pixels) -> Pixels:
    """Return a thumbnail; each pixel of an image that is much smaller becomes a square of them."""
    times = _SIDE // max(pixels.shape[:2])
    if times > 1:
        return pixels.repeat(times, 0).repeat(times, 1)
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)
