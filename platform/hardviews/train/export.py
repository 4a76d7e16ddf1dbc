"""A finished training leaves the encoder, with its classifier if it has one, in its output and in the tracking."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from hardviews.methods.method import Method
from hardviews.models.classifier import Classifier
from hardviews.models.encoder import Encoder, architecture, save
from hardviews.runs.state import MODEL
from hardviews.tracking.mlflow_run import Run
from hardviews.train.recipe import Recipe


def described(recipe: Recipe, objective: nn.Module, method: Method, names: Sequence[str]) -> dict[str, Any]:
    """Return the description of the encoder, and the prefix of its weights' names in a checkpoint (`runs.state`).

    names: of the dataset's classes; a classifier is described by them and by the prefix of its own weights' names.
    """
    augmentation = method.plan().pools[0].augmentation
    described = architecture(recipe.backbone, augmentation.normalisation, augmentation.size)
    described["within"] = _prefix(objective, method.exported)
    if method.classifier is not None:
        described["classifier"] = {"within": _prefix(objective, method.classifier), "names": list(names)}
    return described


def _prefix(objective: nn.Module, part: nn.Module) -> str:
    (name,) = [name for name, module in objective.named_modules() if module is part]
    return f"{MODEL}{name}."


def export(
    recipe: Recipe, method: Method, names: Sequence[str], output: str, run: Run, provenance: Mapping[str, Any]
) -> str:
    """Write the encoder into the output's folder `encoder`, log it as a model, and return that folder.

    names: of the dataset's classes, for a classifier. provenance: where the weights come from; evaluation reads
    `run_id` and `samples`.
    """
    augmentation = method.plan().pools[0].augmentation
    head = method.classifier
    classifier = None if head is None else Classifier.of(head.state_dict(), names)
    encoder = Encoder(
        recipe.backbone,
        augmentation.normalisation,
        method.exported,
        augmentation.size,
        provenance,
        classifier=classifier,
    )
    folder = f"{output}/encoder"
    save(encoder, folder)
    run.log_encoder(encoder, step=provenance["samples"])
    return folder
