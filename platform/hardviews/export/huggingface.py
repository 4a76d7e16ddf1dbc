"""The folder that `transformers.AutoModel.from_pretrained` reads: timm's folder with a model card.

Shape suffixes: B images, C channels, H rows, W columns, D features.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hardviews.export.timm import Timm, forward
from hardviews.models.encoder import Encoder


class HuggingFace(Timm):
    """A folder for transformers, and for the Hugging Face Hub."""

    name = "huggingface"
    packages = ("transformers",)
    has_card = True

    def features(self, encoder: Encoder, folder: Path, images_BCHW: Tensor) -> Tensor:
        import transformers
        from transformers.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        automatic: Any = transformers  # its classes have no types
        processor = automatic.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model = automatic.AutoModel.from_pretrained(folder, local_files_only=True).eval()
        config = processor.data_config

        def pooled(pixels_BCHW: Tensor) -> Tensor:
            with torch.no_grad():
                features_BD: Tensor = model(pixels_BCHW).pooler_output
            return features_BD

        return forward(pooled, config["mean"], config["std"], images_BCHW)

    def loading(self, encoder: Encoder, folder: str) -> str:
        return (
            "from transformers import AutoImageProcessor, AutoModel\n\n"
            f'processor = AutoImageProcessor.from_pretrained("{folder}")\n'
            f'model = AutoModel.from_pretrained("{folder}").eval()\n'
            "features = model(**processor(image)).pooler_output  # image: of PIL"
        )
