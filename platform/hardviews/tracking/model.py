"""The encoder as an MLflow model: safetensors and source text, no pickle."""

import logging
import shutil
import warnings
from importlib.metadata import version
from pathlib import Path

import mlflow.artifacts
import mlflow.pyfunc
import numpy as np
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec

from hardviews import __version__
from hardviews.errors import UserError
from hardviews.models.encoder import Encoder, save
from hardviews.tracking.logged_model import ADDRESS
from hardviews.tracking.server import Server


def write_model(encoder: Encoder, folder: Path) -> None:
    """Write the model into a new folder.

    `mlflow.pyfunc.load_model(folder).predict(images)` maps uint8 images (B, side, side, 3) to float32 features (B, D).
    MLflow's "models from code" keep the wrapper as a source file (`pyfunc_encoder.py`) in place of a pickle; it can be
    loaded only if hardviews is installed.
    """
    side = encoder.image_size
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, side, side, 3))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, encoder.num_features))]),
    )
    requirements = [f"hardviews=={__version__}"]
    requirements += [f"{name}=={version(name)}" for name in ("torch", "timm", "mlflow")]
    weights = folder.with_name(f"{folder.name}.weights")
    save(encoder, weights)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # the version of pip does not matter
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*An input example was not provided")
            mlflow.pyfunc.save_model(
                path=str(folder),
                python_model=str(Path(__file__).with_name("pyfunc_encoder.py")),
                artifacts={"encoder": str(weights)},
                signature=signature,
                pip_requirements=requirements,
                metadata={"digest": encoder.digest, "backbone": encoder.backbone.name},
            )
    finally:
        shutil.rmtree(weights, ignore_errors=True)


def fetch_encoder(server: Server, run_id: str, folder: Path) -> str:
    """Download the newest encoder that a run has logged into an empty folder; return the weights' place.

    Raises:
        UserError: the run does not exist, or has not logged an encoder.
    """
    run = server.find(run_id)
    found = server.client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    models = [model for model in found if ADDRESS not in model.tags]  # the others are records without weights
    if not models:
        raise UserError(
            f"The MLflow run {run_id} has logged no encoder yet: a training logs it at its end. Name its output by "
            f"--run OUTPUT --checkpoint newest to evaluate it before."
        )
    newest = max(models, key=lambda model: model.creation_timestamp)
    where = mlflow.artifacts.download_artifacts(
        artifact_uri=newest.artifact_location, dst_path=str(folder), tracking_uri=server.uri
    )
    (weights,) = Path(where).rglob("encoder.safetensors")
    return str(weights)
