"""Refusals before anything is computed: devices, labels, datasets, sizes of images."""

from typing import Literal

import torch

from hardviews.data.index import PRESENT, Index
from hardviews.errors import UserError
from hardviews.models.encoder import Encoder


def choose_device(wanted: Literal["auto", "cpu", "cuda"], local_rank: int = 0) -> torch.device:
    """Return a process's device, a GPU if there is one and it is not forbidden.

    Raises:
        UserError: a GPU is asked for and there is none, or there are more processes than GPUs.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("Evaluation: device is `cuda`, and PyTorch sees no GPU here; give --device cpu or auto.")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"Evaluation: process {local_rank + 1} of this machine finds only {torch.cuda.device_count()} GPUs. Start "
            "one process for each GPU, or give --device cpu."
        )
    return torch.device("cuda", local_rank)


def check_labels(index: Index, label_sets: bool = False) -> None:
    """Raise UserError unless every sample of a dataset has a label. label_sets: whether it may be a set of classes."""
    if index.label_sets is not None:
        if not label_sets:
            raise UserError(
                f"The images of the dataset at {index.url} may have several classes each, which this evaluation does "
                "not take. Use hardviews fewshot --classifier svm, hardviews transfer or hardviews knn."
            )
        if not (index.label_sets == PRESENT).any():
            raise UserError(f"Evaluation: no class is present in an image of the dataset at {index.url}.")
        return
    if not index.labelled:
        raise UserError(
            f"Evaluation needs labels, and the dataset at {index.url} has samples without. Pack it from "
            "a folder of class folders, or evaluate on another one."
        )


def check_datasets(train: Index, test: Index, label_sets: bool = False) -> None:
    """Raise UserError unless both datasets have labels, of the same two or more classes, and differ.

    `label_sets`: see `check_labels`.
    """
    for index in (train, test):
        check_labels(index, label_sets)
    if train.multi_label != test.multi_label:
        raise UserError(
            f"Evaluation: the images of one of {train.url} and {test.url} have one class each, the other's images may "
            "have several. Pack both from lists of one kind."
        )
    if train.classes != test.classes:
        different = sorted(set(train.classes) ^ set(test.classes))
        raise UserError(
            f"Evaluation: the datasets at {train.url} and {test.url} do not have the same classes in the "
            f"same order (different: {', '.join(different[:5]) or 'their order'}). Pack both from the same "
            "class folders."
        )
    if not train.multi_label and len(seen := set(train.labels.tolist())) < 2:
        name = train.classes[seen.pop()] if seen else "none"
        raise UserError(
            f"Evaluation: all images of the dataset at {train.url} are of one class, {name}. Accuracy would measure "
            "nothing, since there is nothing to tell apart. Pack a folder with two class folders or more."
        )
    if train.digest == test.digest:
        raise UserError(
            f"Evaluation: {train.url} and {test.url} hold the same dataset, so the test would be on its own "
            "training samples. Give a test dataset that was held out."
        )


def check_crop(encoder: Encoder, crop: int) -> None:
    """Raise UserError if the network cannot take images of that size; an empty image is the test."""
    if crop == encoder.image_size:
        return
    device = next(encoder.parameters()).device
    try:
        encoder.embed(torch.zeros(1, 3, crop, crop, dtype=torch.uint8, device=device))
    except (AssertionError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"Evaluation: {encoder.backbone.name} cannot take a crop of {crop} pixels ({reason}). Give another --crop, "
            f"or none: then it is {encoder.image_size}, as in the training."
        ) from error
