"""The code that MLflow stores with an encoder and runs to load it."""

from typing import Any

import mlflow
import numpy as np
import torch

from hardviews.models.encoder import Encoder, load


class PyfuncEncoder(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]
    """Features of uint8 images (B, H, W, 3) as float32 (B, D)."""

    encoder: Encoder

    def load_context(self, context: Any) -> None:
        """Load the weights beside this file."""
        self.encoder = load(context.artifacts["encoder"])

    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> np.ndarray:
        """Return the features of a batch; MLflow has checked it against the signature."""
        images_BHWC = torch.from_numpy(np.ascontiguousarray(model_input))
        return self.encoder.embed(images_BHWC.permute(0, 3, 1, 2)).cpu().numpy()


mlflow.models.set_model(PyfuncEncoder())
