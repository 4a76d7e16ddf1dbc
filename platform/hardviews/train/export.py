"""What a finished training leaves to evaluation: the encoder, beside the checkpoints and in the tracking."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from hardviews.methods.method import Method
from hardviews.models.encoder import Encoder, architecture, save
from hardviews.runs.state import MODEL
from hardviews.tracking.mlflow_run import Run
from hardviews.train.recipe import Recipe


def described(recipe: Recipe, objective: nn.Module, method: Method) -> dict[str, Any]:
    """Return the description of the encoder, and the prefix of its weights' names in a checkpoint (`runs.state`)."""
    augmentation = method.plan().pools[0].augmentation
    (name,) = [name for name, module in objective.named_modules() if module is method.exported]
    described = architecture(recipe.backbone, augmentation.normalisation, augmentation.size)
    return {**described, "within": f"{MODEL}{name}."}


def export(recipe: Recipe, method: Method, output: str, run: Run, provenance: Mapping[str, Any]) -> str:
    """Write the encoder into the output's folder `encoder`, log it as a model, and return that folder.

    provenance: where the weights come from; evaluation reads `run_id` and `samples`.
    """
    augmentation = method.plan().pools[0].augmentation
    encoder = Encoder(recipe.backbone, augmentation.normalisation, method.exported, augmentation.size, provenance)
    folder = f"{output}/encoder"
    save(encoder, folder)
    run.log_encoder(encoder, step=provenance["samples"])
    return folder
