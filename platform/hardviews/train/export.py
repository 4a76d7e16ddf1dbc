"""Writes the encoder of a finished training, and its classifier if it has one, to the output and the tracking."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from hardviews.models.classifier import Classifier
from hardviews.models.encoder import Encoder, architecture, save
from hardviews.runs.state import MODEL
from hardviews.tracking.mlflow_run import Run
from hardviews.train.lasting import AVERAGE
from hardviews.train.recipe import Recipe
from hardviews.train.trainer import Trainer


def described(recipe: Recipe, trainer: Trainer, names: Sequence[str]) -> dict[str, Any]:
    """Return the description of the encoder, and the prefix of its weights' names in a checkpoint (`runs.state`).

    `names` are the names of the dataset's classes. The description of a classifier holds them and the prefix of its own
    weights' names.
    """
    augmentation = trainer.objective.method.plan().pools[0].augmentation
    described = architecture(recipe.backbone, augmentation.normalisation, augmentation.size)
    within = {part: _prefix(trainer, network) for part, network in trainer.exported.items()}
    described["within"] = within["network"]
    if "classifier" in within:
        described["classifier"] = {"within": within["classifier"], "names": list(names)}
    return described


def _prefix(trainer: Trainer, part: nn.Module) -> str:
    whole, begin = (trainer.objective, MODEL) if trainer.average is None else (trainer.average, AVERAGE)
    (name,) = [name for name, module in whole.named_modules() if module is part]
    return f"{begin}{name}."


def export(
    recipe: Recipe, trainer: Trainer, names: Sequence[str], output: str, run: Run, provenance: Mapping[str, Any]
) -> str:
    """Write the encoder into the output's folder `encoder`, log it as a model, and return that folder.

    `names` are the names of the dataset's classes, for a classifier. `provenance` is the origin of the weights;
    evaluation reads its `run_id` and `samples`.
    """
    augmentation = trainer.objective.method.plan().pools[0].augmentation
    head = trainer.exported.get("classifier")
    classifier = None if head is None else Classifier.of(head.state_dict(), names)
    encoder = Encoder(
        recipe.backbone,
        augmentation.normalisation,
        trainer.exported["network"],
        augmentation.size,
        provenance,
        classifier=classifier,
    )
    folder = f"{output}/encoder"
    save(encoder, folder)
    run.log_encoder(encoder, step=provenance["samples"])
    return folder
